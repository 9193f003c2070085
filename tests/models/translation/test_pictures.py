import warnings

import numpy as np
import pytest
from PIL import Image

from models.translation.metrics import LengthScore
from models.translation.pictures import (
    Sample,
    draw_attention,
    plot_bleu_by_length,
    range_name,
    readable,
    write_samples,
)


@pytest.fixture(autouse=True)
def no_warnings():
    """A glyph that the font lacks, or a layout that does not fit, is a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def diagonal(rows, columns):
    distance = np.abs(np.linspace(0, 1, rows)[:, None] - np.linspace(0, 1, columns)[None])
    weights = np.exp(-12 * distance)
    return weights / weights.sum(axis=1, keepdims=True)


def test_word_starts_are_visible():
    assert readable("▁chat") == "␣chat"
    assert readable("</s>") == "</s>"


def test_attention_of_subwords_is_drawn(tmp_path):
    source = ["▁The", "▁black", "▁c", "at", "▁sleeps", ".", "</s>"]
    target = ["▁Le", "▁chat", "▁noir", "▁dort", ".", "</s>"]
    draw_attention(source, target, diagonal(6, 7), tmp_path / "attention.png")
    with Image.open(tmp_path / "attention.png") as picture:
        assert min(picture.size) > 300


def test_attention_grows_with_its_tokens(tmp_path):
    source = [*"▁Вторник,▁8▁Απρίλιος▁2014", "<unk>", "</s>"]
    target = [*"2014-04-08", "</s>"]
    draw_attention(source, target, diagonal(11, len(source)), tmp_path / "date.png")
    # Read as a formula, what stands between two dollar signs would be an error.
    draw_attention(["$_", "$"], ["$^$"], np.ones((1, 2)) / 2, tmp_path / "small.png")
    with Image.open(tmp_path / "date.png") as date, Image.open(tmp_path / "small.png") as small:
        assert date.width > 1.5 * small.width


def test_higher_weights_are_darker_whatever_the_others_are(tmp_path):
    def darkness(weight):
        draw_attention(["a"], ["b"], np.array([[weight]]), tmp_path / "one.png")
        with Image.open(tmp_path / "one.png") as picture:
            pixels = np.asarray(picture.convert("L"))
        return 255 - int(np.median(pixels[100:200, 100:200]))

    assert darkness(0.1) < darkness(0.5) < darkness(1.0)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 1), (3, 3)])
def test_attention_of_another_shape_is_refused(shape, tmp_path):
    with pytest.raises(ValueError, match=r"3 target and 2 source tokens .* \(3, 2\)"):
        draw_attention(["a", "b"], ["c", "d", "e"], np.zeros(shape), tmp_path / "never.png")


def test_attention_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="0 target and 1 source tokens"):
        draw_attention(["a"], [], np.zeros((0, 1)), tmp_path / "never.png")
    assert not list(tmp_path.iterdir())


def test_bleu_by_length_is_drawn(tmp_path):
    scores = [
        LengthScore(0, 5, 812, 61.2),
        LengthScore(6, 10, 1904, 54.9),
        LengthScore(11, 15, 377, 49.0),
        LengthScore(16, 20, 58, 41.3),
        LengthScore(21, None, 7, 0.0),
    ]
    plot_bleu_by_length(scores, tmp_path / "bleu.png")
    plot_bleu_by_length([LengthScore(0, None, 1, 100.0)], tmp_path / "one.png")
    for name in ("bleu", "one"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_ranges_are_named_as_people_read_them():
    assert range_name(LengthScore(6, 10, 1, 0)) == "6–10"
    assert range_name(LengthScore(7, 7, 1, 0)) == "7"
    assert range_name(LengthScore(41, None, 1, 0)) == "41+"


def test_samples_are_one_line_each(tmp_path):
    rows = [Sample("a\tb", "c\nd", "é €"), Sample("", "x", "")]
    write_samples(tmp_path / "samples.tsv", rows)
    text = (tmp_path / "samples.tsv").read_text(encoding="utf-8")
    assert text == "source\treference\ttranslation\na b\tc d\té €\n\tx\t\n"
