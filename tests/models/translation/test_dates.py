"""The generator is checked against a reader of dates that knows the rule and nothing else."""

import os
import re
import subprocess
import sys
import unicodedata
from datetime import date
from functools import cache
from pathlib import Path

import pytest
from babel import Locale

from models.common.splits import DataError
from models.translation.config import DATES
from models.translation.data import build_corpus, normalised
from models.translation.dates import LOCALES, Form, make_pairs, make_source
from protocol.subwords import FIRST_PIECE_ID

HAND_WRITTEN = Path(__file__).with_name("dates_100.tsv")
SAMPLE_SIZE = 60_000


def fold(text):
    """Letters without case and accents."""
    text = text.lower().translate(str.maketrans("łøıςʼ’", "loiσ''"))
    letters = unicodedata.normalize("NFD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def words_of(text):
    return re.findall(r"[^\W\d_]+", fold(text))


def names_of(locale, kind):
    """Returns (number, name) of a language's months or days, in all their forms."""
    names = getattr(Locale.parse(locale), kind)
    return [
        item
        for context in ("format", "stand-alone")
        for width in ("abbreviated", "wide")
        for item in names[context][width].items()
    ]


# By language: name of a month -> its number, and names of weekdays.
MONTHS = {
    locale: {words_of(name)[-1]: number for number, name in names_of(locale, "months")}
    for locale in LOCALES
}
WEEKDAYS = {
    locale: {word for _, name in names_of(locale, "days") for word in words_of(name)}
    for locale in LOCALES
}
ALL_MONTHS = {name for months in MONTHS.values() for name in months}
ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    *("tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth"),
    *("seventeenth", "eighteenth", "nineteenth", "twentieth"),
)
DAYS = {word: n for n, word in enumerate(ORDINALS, 1)} | {"twenty": 20, "thirty": 30}
DAYS["thirtieth"] = 30


def read_date(text):
    """Reads a date by the rule in the docstring of models.translation.dates."""
    numbers = re.findall(r"\d+", text)
    if len(numbers) == 3:
        year, month, day = read_numbers(numbers, text)
    elif len(numbers) == 1 and len(numbers[0]) == 8:
        year, month, day = numbers[0][:4], numbers[0][4:6], numbers[0][6:]
    else:
        words = words_of(text)
        month = read_month(words)
        if len(numbers) == 1:
            year, day = numbers[0], sum(DAYS.get(word, 0) for word in words)
        else:
            day, year = numbers if len(numbers[0]) < 4 else reversed(numbers)
    return date(read_year(str(year)), int(month), int(day)).isoformat()


def read_numbers(numbers, text):
    first, second, third = numbers
    if len(first) == 4:
        return first, second, third
    if "/" in text and int(first) <= 12:
        return third, first, second
    return third, second, first


def read_month(words):
    names = tuple(word for word in words if word in ALL_MONTHS)
    if names:
        return read_month_names(names)
    (month,) = {ROMAN.index(word) + 1 for word in words if word in ROMAN}
    return month


@cache
def read_month_names(names):
    """Reads names that are all of one language, the month's and perhaps the weekday's."""
    readings = set()
    for locale in LOCALES:
        months, weekdays = MONTHS[locale], WEEKDAYS[locale]
        if not all(name in months or name in weekdays for name in names):
            continue
        found = {months[name] for name in names if name in months}
        if len(found) > 1:  # "mar 3 mag": Tuesday, not March
            found = {months[name] for name in names if name not in weekdays}
        if len(found) == 1:
            readings |= found
    (month,) = readings
    return month


def read_year(digits):
    if len(digits) == 4:
        return int(digits)
    assert len(digits) == 2
    return int(digits) + (1900 if int(digits) >= 69 else 2000)


@pytest.fixture(scope="module")
def sample():
    return make_pairs(SAMPLE_SIZE, 3)


@pytest.fixture(scope="module")
def hand_written():
    lines = HAND_WRITTEN.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines]


def test_every_string_has_the_answer_of_the_rule(sample):
    wrong = [pair for pair in sample if read_date(pair.source) != pair.target]
    assert not wrong[:10]


def test_no_string_has_two_answers(sample):
    answers = {}
    for pair in [*sample, *make_pairs(SAMPLE_SIZE, 4)]:
        assert answers.setdefault(pair.source, pair.target) == pair.target


def test_no_month_has_the_name_of_another():
    numbers = {}
    for locale in LOCALES:
        for number, name in names_of(locale, "months"):
            assert numbers.setdefault(words_of(name)[-1], number) == number, (locale, name)


def test_hand_written_list_follows_the_rule(hand_written):
    assert len({text for text, _ in hand_written}) == 100
    assert [read_date(text) for text, _ in hand_written] == [iso for _, iso in hand_written]


def test_every_character_of_the_hand_written_list_is_learned(hand_written, sample):
    known = set("".join(pair.source for pair in sample))
    assert set("".join(text for text, _ in hand_written)) <= known


@pytest.mark.parametrize(
    ("pattern", "locale", "text"),
    [
        ("d MMMM y", "fr", "3 mai 1979"),
        ("EEEE, MMMM {3rd}, y", "en_US", "Thursday, May 3rd, 1979"),
        ("'the' {third} 'of' MMMM y", "en_GB", "the third of May 1979"),
        ("MMM d, ''yy", "en_US", "May 3, '79"),
        ("d.{V}.y", "en_US", "3.V.1979"),
        ("{1er} MMMM y", "fr", "3 mai 1979"),
        ("d MMMM y\u202f'г'.", "ru", "3 мая 1979 г."),
        ("d. MMM. y", "de", "3. Mai. 1979"),
    ],
)
def test_forms_by_hand(pattern, locale, text):
    assert Form(pattern, locale).write(date(1979, 5, 3)) == text


def test_first_of_the_month_by_hand():
    assert Form("{1er} MMMM y", "fr").write(date(2000, 1, 1)) == "1er janvier 2000"
    assert Form("{1º} MMMM y", "it").write(date(2000, 5, 1)) == "1º maggio 2000"


def test_day_stands_before_a_slash_only_where_it_cannot_be_a_month():
    assert Form("d/M/y", "en_US").earliest_day == Form("dd/MM/yy", "fr").earliest_day == 13
    assert Form("M/d/y", "en_US").earliest_day == Form("d/MMM/y", "fr").earliest_day == 1


def test_sample_is_broad(sample):
    texts = [pair.source for pair in sample]
    assert len(set(texts)) > 0.9 * SAMPLE_SIZE
    together = "\n".join(texts)
    for locale in LOCALES:
        assert Locale.parse(locale).months["format"]["wide"][2] in together, locale
    years = {pair.target[:4] for pair in sample}
    assert (min(years), max(years), len(years)) == ("1900", "2099", 200)
    assert any(pair.target.endswith("02-29") for pair in sample)


def test_blanks_and_apostrophes_are_plain(sample):
    text = "".join(pair.source for pair in sample)
    assert not set(text) & set("\u00a0\u202f\u2019\u02bc\t\n")


def test_strings_fit_the_tokenizer_of_the_preset(sample):
    characters = set("".join(pair.source + pair.target for pair in sample))
    assert FIRST_PIECE_ID + len(characters) <= DATES.tokenizer.vocabulary_size
    assert max(len(pair.source) for pair in sample) < DATES.tokenizer.max_tokens


def test_repeats_with_the_seed():
    assert make_pairs(50, 1) == make_pairs(50, 1)
    assert make_pairs(50, 1) != make_pairs(50, 2)


@pytest.mark.slow
def test_another_process_generates_the_same_pairs():
    program = (
        "from models.translation.dates import make_pairs; "
        "print(ascii([(p.source, p.target) for p in make_pairs(300, 5)]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    expected = [(pair.source, pair.target) for pair in make_pairs(300, 5)]
    assert done.stdout.strip() == ascii(expected)


def test_source_has_different_strings_in_its_splits():
    source = make_source(3_000, seed=1, dev_count=400)
    other = make_source(3_000, seed=2, dev_count=400)
    keys = {
        split: [normalised(pair.source) for pair in pairs] for split, pairs in source.splits.items()
    }
    assert {split: len(set(part)) for split, part in keys.items()} == {"train": 3_000, "dev": 400}
    assert not set(keys["dev"]) & set(keys["train"])
    assert not set(keys["dev"]) & {normalised(pair.source) for pair in other.splits["train"]}
    assert source == make_source(3_000, seed=1, dev_count=400)
    assert build_corpus([source]).train == source.splits["train"]
    assert source.digest != other.digest


@pytest.mark.parametrize("counts", [(0, 10), (10, 0)])
def test_source_without_pairs_is_refused(counts):
    with pytest.raises(DataError, match="1 or more, got"):
        make_source(counts[0], dev_count=counts[1])
