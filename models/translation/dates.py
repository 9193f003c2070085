"""The dates task: dates as people write them, translated to ISO 8601.

Pairs such as "3 mai 1979" -> "1979-05-03" are generated from the names and formats of the Unicode
CLDR in Babel, for the years 1900 to 2099. No file, clock or setting of the machine plays a part.

Every string has one answer, whatever the language. Where habits differ, this rule decides:

- A number of four digits in front is the year; month and day follow.
- Numbers parted by "/" are month, day, year, as in the United States: "09/12/23" is 2023-09-12.
  A first number above 12 can only be the day: "13/12/23" is 2023-12-13.
- Numbers parted by ".", "-" or blanks are day, month, year: "09.12.23" is 2023-12-09.
- Beside the month's name, or its Roman numeral, the year is the number of four digits, else the
  last one.
- Years of two digits, 69 to 99, are 1969 to 1999; 00 to 68 are 2000 to 2068 (POSIX, strptime %y).
- Eight digits in a row are year, month, day.
- Month and weekday are named in one language; the weekday is not needed, and not checked.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import islice
from random import Random

from babel import Locale
from babel.dates import format_date

from models.common.splits import DEV, TRAIN, DataError, in_held_out_part
from models.translation.data import Pair, Source, normalised

# Croatian and Irish are not among them: Croatian "listopada" is October, Polish November, and the
# Irish short form of September and October is the same.
LOCALES = (
    *("en_US", "en_GB", "de", "fr", "es", "it", "pt", "ca", "ro", "nl", "sv", "da", "nb", "fi"),
    *("pl", "cs", "sk", "sl", "hu", "tr", "id", "ru", "uk", "bg", "el", "lt", "lv", "et"),
)
# Share of the strings that are held out, by a hash of each.
HELD_OUT = 0.1
FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2099, 12, 31)
FIRST_SHORT_DAY, LAST_SHORT_DAY = date(1969, 1, 1), date(2068, 12, 31)

# Patterns follow the CLDR: d day, MMMM month, LLLL month standing alone, y year, EEEE weekday;
# fewer letters are shorter forms. Words in braces are ours, see _SPELLINGS.
_STYLES = ("short", "medium", "long", "full")
_SKELETONS = ("yMd", "yMMMd", "yMMMEd", "yMMMMd", "yMMMMEEEEd")

_ANY_LANGUAGE = (
    "d MMMM y",
    "d. MMMM y",
    "d MMM y",
    "dd MMM y",
    "d. MMM y",
    "d MMM yy",
    "d MMMM yy",
    "d MMMM, y",
    "d MMMM ''yy",
    "d LLLL y",
    "LLLL d, y",
    "LLL d, y",
    "y LLLL d",
    "y LLL d",
    "d-LLL-y",
    "d-LLL-yy",
    "y-LLL-dd",
    "d/LLL/y",
    "d.LLL.y",
    "dLLLy",
    "E d MMM y",
    "E, d MMM y",
    "EEEE d MMMM y",
    "EEEE, d MMMM y",
    "E d.M.y",
    "E, dd.MM.yy",
    "EEEE, d.M.y",
)

_ONE_LANGUAGE = {
    "de": ("'am' d. MMMM y", "'den' d. MMMM y", "EEEE, 'den' d. MMMM y", "EEEE, 'der' d. MMMM y"),
    "fr": ("{1er} MMMM y", "'le' {1er} MMMM y", "EEEE {1er} MMMM y", "'le' EEEE {1er} MMMM y"),
    "es": ("'el' d 'de' MMMM 'de' y", "d 'de' MMMM 'del' y", "EEEE d 'de' MMMM 'de' y"),
    "it": ("{1º} MMMM y", "'il' {1º} MMMM y", "EEEE {1º} MMMM y", "'il' d MMMM y"),
    "pt": ("{1º} 'de' MMMM 'de' y", "'em' d 'de' MMMM 'de' y", "EEEE, {1º} 'de' MMMM 'de' y"),
    "nl": ("'op' d MMMM y", "'op' EEEE d MMMM y"),
    "sv": ("'den' d MMMM y", "EEEE 'den' d MMMM y"),
    "da": ("'den' d. MMMM y", "EEEE 'den' d. MMMM y"),
    "nb": ("'den' d. MMMM y", "EEEE 'den' d. MMMM y"),
    "pl": ("d MMMM y 'r.'", "EEEE, d MMMM y 'r.'", "d {V} y", "d {V} y 'r.'"),
    "cs": ("d.MMMM y", "EEEE d.MMMM y"),
    "sk": ("d.MMMM y", "EEEE d.MMMM y"),
    "sl": ("d.MMMM y", "'dne' d. MMMM y"),
    "hu": ("y. {V}. d.", "y MMMM d.", "y. MMMM d., E"),
    "ro": ("'la' d MMMM y", "d {V} y"),
    "ca": ("EEEE d MMMM 'de' y", "d MMMM 'de' y"),
    "tr": ("d MMMM y, EEEE", "d MMMM y E"),
    "id": ("'tanggal' d MMMM y",),
    "ru": ("d MMMM y 'года'", "EEEE, d MMMM y 'года'", "d MMM y 'г.'"),
    "uk": ("d MMMM y 'року'", "EEEE, d MMMM y 'року'"),
    "bg": ("d MMMM y 'година'", "d MMM y 'г.'"),
    "lt": ("y 'm'. MMM d 'd'.", "y MMMM d 'd'."),
    "lv": ("d. MMMM, y. 'gads'", "y. 'g'. d. MMMM"),
}

_ENGLISH = (
    "{3rd} MMMM y",
    "{3rd} MMM y",
    "{3rd} MMMM, y",
    "MMMM {3rd} y",
    "MMMM {3rd}, y",
    "MMM {3rd}, y",
    "MMM {3rd} ''yy",
    "{3rd} MMM ''yy",
    "{3rd} 'of' MMMM y",
    "{3rd} 'of' MMMM, y",
    "'the' {3rd} 'of' MMMM y",
    "'the' {3rd} 'of' MMMM, y",
    "MMMM 'the' {3rd}, y",
    "EEEE {3rd} MMMM y",
    "EEEE, {3rd} 'of' MMMM y",
    "EEEE 'the' {3rd} 'of' MMMM y",
    "EEEE, MMMM {3rd}, y",
    "EEEE MMMM {3rd} y",
    "EEEE, MMMM 'the' {3rd}, y",
    "E {3rd} MMM y",
    "E, MMM {3rd}, y",
    "'the' {third} 'of' MMMM y",
    "'the' {third} 'of' MMMM, y",
    "{third} 'of' MMMM y",
    "MMMM {third}, y",
    "EEEE 'the' {third} 'of' MMMM y",
    "'on' MMMM d, y",
    "'on' d MMMM y",
    "'on' {3rd} MMMM y",
    "'on' EEEE, MMMM d, y",
    "MMMM d y",
    "MMM d y",
    "MMM. d, y",
    "MMM dd, y",
    "MMMM d, ''yy",
    "MMM d, ''yy",
    "MMM d ''yy",
    "MMM d, yy",
    "d MMM ''yy",
    "E MMM d y",
    "E MMM dd y",
    "E, MMM d, y",
    "E, d MMM y",
    "E, dd MMM y",
    "EEEE, d MMMM y",
    "EEEE MMMM d, y",
    "d-MMM-y",
    "dd-MMM-y",
    "d-MMM-yy",
    "dd-MMM-yy",
    "d-MMMM-y",
    "MMM-d-y",
    "MMM/d/y",
    "dd/MMM/y",
    "ddMMMy",
    "ddMMMyy",
    "dMMMy",
    "MMMd,y",
    "y, MMMM d",
    "y MMMM {3rd}",
    "y-MMM-dd",
)

_NUMERIC = (
    "y-MM-dd",
    "y-M-d",
    "y/MM/dd",
    "y/M/d",
    "y.MM.dd",
    "y.M.d",
    "y. MM. dd.",
    "y MM dd",
    "yMMdd",
    "dd.MM.y",
    "d.M.y",
    "dd.MM.yy",
    "d.M.yy",
    "dd. MM. y",
    "d. M. y",
    "d.M.''yy",
    "dd-MM-y",
    "d-M-y",
    "dd-MM-yy",
    "d-M-yy",
    "dd MM y",
    "d M y",
    "d M yy",
    "MM/dd/y",
    "M/d/y",
    "MM/dd/yy",
    "M/d/yy",
    "M / d / y",
    "M/d/''yy",
    "dd/MM/y",
    "d/M/y",
    "dd/MM/yy",
    "d/M/yy",
    "d {V} y",
    "d.{V}.y",
    "d-{V}-y",
    "d. {V}. y",
)

_UNITS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_ORDINAL_WORDS = (
    *_UNITS,
    *("tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth"),
    *("seventeenth", "eighteenth", "nineteenth", "twentieth"),
    *(f"twenty-{unit}" for unit in _UNITS),
    *("thirtieth", "thirty-first"),
)
_SUFFIXES = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
_DAYS = tuple(str(number) for number in range(1, 32))
# Placeholder -> its text for each day of the month.
_SPELLINGS = {
    "{3rd}": tuple(f"{n}{_SUFFIXES.get(n, 'th')}" for n in range(1, 32)),
    "{third}": _ORDINAL_WORDS,
    "{1er}": ("1er", *_DAYS[1:]),
    "{1º}": ("1º", *_DAYS[1:]),
}
_ROMAN_MONTHS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")

_TYPOGRAPHY = str.maketrans(
    {
        "\N{NO-BREAK SPACE}": " ",
        "\N{NARROW NO-BREAK SPACE}": " ",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{MODIFIER LETTER APOSTROPHE}": "'",
    }
)
_CYRILLIC = ("ru", "uk", "bg")
_LETTERS_WITH_STROKES = str.maketrans("łŁøØđĐı", "lLoOdDi")
_ACUTE = "\N{COMBINING ACUTE ACCENT}"


@dataclass(frozen=True)
class Form:
    """One way to write a date: a pattern in a language."""

    pattern: str
    locale: str

    def write(self, day: date) -> str:
        """Writes a date in this form, with plain blanks and apostrophes."""
        pattern = self.pattern
        if "{" in pattern:
            for placeholder, words in _SPELLINGS.items():
                pattern = pattern.replace(placeholder, f"'{words[day.day - 1]}'")
            pattern = pattern.replace("{V}", f"'{_ROMAN_MONTHS[day.month - 1]}'")
        text = format_date(day, pattern, _locale(self.locale))
        return text.translate(_TYPOGRAPHY).replace("..", ".")

    @property
    def has_short_year(self) -> bool:
        """Whether the year has two digits."""
        return "yy" in self.pattern

    @property
    def earliest_day(self) -> int:
        """First day of a month that this form may write: 13 where "/" follows the day."""
        return 13 if re.match(r"dd?/MM?/", self.pattern) else 1


def make_pairs(count: int, seed: int) -> list[Pair]:
    """Generates `count` pairs of a written date and its ISO date, the same for the same seed.

    Forms, languages and dates are drawn independently, so a string can occur more than once;
    it has the same answer each time.
    """
    return list(islice(_stream_pairs(Random(seed)), count))


def make_source(count: int = 300_000, seed: int = 7, dev_count: int = 10_000) -> Source:
    """Generates a source with `count` pairs in train and `dev_count` in dev, all different.

    A hash of the string alone decides whether it may stand in train or in dev, so no string of a
    dev part stands in the train part of any seed, not even in another style: case, blanks and
    commas make no difference.

    Raises:
        DataError: if a split would be empty.
    """
    wanted = {TRAIN: count, DEV: dev_count}
    if min(wanted.values()) < 1:
        raise DataError(f"count and dev_count must be 1 or more, got {count} and {dev_count}")
    splits: dict[str, list[Pair]] = {TRAIN: [], DEV: []}
    seen = set()
    for pair in _stream_pairs(Random(seed)):
        key = normalised(" ".join(pair.source.split()))
        split = DEV if in_held_out_part(key, HELD_OUT) else TRAIN
        if key in seen or len(splits[split]) == wanted[split]:
            continue
        seen.add(key)
        splits[split].append(pair)
        if all(len(splits[name]) == wanted[name] for name in wanted):
            break
    return Source("dates", splits, f"seed-{seed}-{count}-{dev_count}")


def _stream_pairs(random: Random) -> Iterator[Pair]:
    while True:
        form = _draw_form(random)
        day = _draw_day(random, form)
        yield Pair(_vary(random, form.write(day), form.locale), day.isoformat())


def _draw_form(random: Random) -> Form:
    """Draws a family of forms, then a language, then a form."""
    families, shares = _families()
    languages = random.choices(families, shares)[0]
    return random.choice(random.choice(languages))


def _draw_day(random: Random, form: Form) -> date:
    first, last = FIRST_DAY, LAST_DAY
    if form.has_short_year:
        first, last = FIRST_SHORT_DAY, LAST_SHORT_DAY
    while True:
        day = date.fromordinal(random.randint(first.toordinal(), last.toordinal()))
        if day.day >= form.earliest_day:
            return day


@cache
def _families() -> tuple[list[list[list[Form]]], list[float]]:
    """Returns all forms as [family][language][form], and the share of each family."""
    standard = [_forms(_standard_patterns(name), name) for name in LOCALES]
    free = [_forms([*_ANY_LANGUAGE, *_ONE_LANGUAGE.get(name, ())], name) for name in LOCALES]
    english = [_forms(_ENGLISH, name) for name in ("en_US", "en_GB")]
    numeric = [_forms(_NUMERIC, "en_US")]
    return [standard, free, english, numeric], [0.25, 0.30, 0.20, 0.25]


def _forms(patterns: Iterable[str], locale: str) -> list[Form]:
    return [Form(pattern, locale) for pattern in dict.fromkeys(patterns)]


def _standard_patterns(name: str) -> list[str]:
    """Returns the formats that the CLDR gives for a locale."""
    locale = _locale(name)
    patterns = [locale.date_formats[style].pattern for style in _STYLES]
    skeletons = locale.datetime_skeletons
    return patterns + [skeletons[name].pattern for name in _SKELETONS if name in skeletons]


@cache
def _locale(name: str) -> Locale:
    return Locale.parse(name)


def _vary(random: Random, text: str, locale: str) -> str:
    """Writes a date as carelessly as people do, without changing what it says."""
    text = _vary_punctuation(random, text)
    text = _vary_letters(random, text, locale)
    return _vary_blanks(random, text)


def _vary_punctuation(random: Random, text: str) -> str:
    draw = random.random()
    if draw < 0.10:
        return " ".join(text.replace(",", " ").split())
    if draw < 0.13:
        return text.replace(", ", ",")
    if draw < 0.20:  # abbreviations without their dot
        return re.sub(r"(?<=[^\W\d])\.(?=[\s,]|$)", "", text)
    return text


def _vary_letters(random: Random, text: str, locale: str) -> str:
    if random.random() < 0.10:
        text = _strip_accents(text, locale)
    draw = random.random()
    if draw < 0.18:
        return text.lower()
    if draw < 0.30:
        return _upper(text, locale)
    if draw < 0.36:
        return string.capwords(text)
    return text


def _vary_blanks(random: Random, text: str) -> str:
    draw = random.random()
    if draw < 0.03:
        return text.replace(" ", "  ")
    if draw < 0.05:
        return f" {text} "
    return text


def _strip_accents(text: str, locale: str) -> str:
    """Writes text as on a keyboard without accents; Cyrillic letters stay, they are no accents."""
    if locale in _CYRILLIC:
        return text
    letters = unicodedata.normalize("NFD", text.translate(_LETTERS_WITH_STROKES))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _upper(text: str, locale: str) -> str:
    """Capitals as the language has them: Turkish keeps the dot of i, Greek drops the accent."""
    if locale == "tr":
        text = text.replace("i", "İ")
    if locale == "el":
        letters = unicodedata.normalize("NFD", text).replace(_ACUTE, "")
        text = unicodedata.normalize("NFC", letters)
    return text.upper()
