"""Pictures of attention: where colours end up, and that nothing makes drawing fail."""

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients import AttentionResult, heat_map
from clients.heat_map import draw_attention

DARKEST = (8, 48, 107)


def attended(
    source: list[str], target: list[str], weights: np.ndarray[Any, Any] | None = None
) -> AttentionResult:
    if weights is None:
        weights = np.full((len(target), len(source)), 1 / max(len(source), 1))
    attention = weights.astype(np.float32)
    return AttentionResult("text", "said", 0.0, tuple(source), tuple(target), attention, False)


def grid_of(result: AttentionResult, cell: int) -> np.ndarray[Any, Any]:
    """Returns the colour in the middle of each cell, uint8 [T, S, 3]; lines tell where it is."""
    pixels = np.asarray(draw_attention(result))
    lines = (pixels == heat_map._LINE).all(axis=2)
    rows, columns = result.attention.shape
    left = int(np.argmax(lines.sum(axis=0) > rows * cell))
    top = int(np.argmax(lines.sum(axis=1) > columns * cell))
    middle = cell // 2
    return pixels[top + middle :: cell, left + middle :: cell][:rows, :columns]


def test_cells_are_where_they_belong() -> None:
    weights = np.array([[0, 0.8, 0], [0.4, 0, 0]])
    grid = grid_of(attended(["a", "b", "c"], ["x", "y"], weights), cell=44)
    white, middle = (255, 255, 255), (66, 146, 198)  # the largest share is the darkest
    assert [[tuple(pixel) for pixel in row] for row in grid.tolist()] == [
        [white, DARKEST, white],
        [middle, white, white],
    ]


@pytest.mark.parametrize("count", [3, 20, 60, 128])
def test_every_token_has_its_own_cell(count: int) -> None:
    tokens = [f"▁token{number}" for number in range(count)]
    cell = heat_map._cell_size((count, count))
    assert cell >= 18
    grid = grid_of(attended(tokens, tokens, np.eye(count)), cell)
    dark = (grid == DARKEST).all(axis=2)
    assert (dark == np.eye(count, dtype=bool)).all()


def test_long_words_are_written_upwards_and_single_letters_upright() -> None:
    upright = draw_attention(attended(list("3▁mai"), ["x"]))
    upwards = draw_attention(attended(["▁internationally", "b", "c", "d", "e"], ["x"]))
    assert upwards.width == upright.width
    assert upwards.height > upright.height + 50


def test_very_long_tokens_are_cut() -> None:
    tall = draw_attention(attended(["x" * 1000], ["y" * 1000]))
    assert max(tall.size) < 600


def test_the_mark_of_a_word_is_seen() -> None:
    bare, marked = (draw_attention(attended(["a"], [token])) for token in ("a", "▁a"))
    assert marked.width >= bare.width
    assert np.asarray(marked).tobytes() != np.asarray(bare).tobytes()


def test_without_a_good_font_letters_are_simplified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heat_map, "_FONTS", ())
    font = heat_map._font(16)
    assert heat_map._drawable("␣Éléphant ЖA中.", font) == "_Elephant ?A?."
    draw_attention(attended(["▁où", "</s>"], ["▁Ж", "</s>"]))


@settings(max_examples=40, deadline=None)
@given(
    source=st.lists(st.text(max_size=30), max_size=5),
    target=st.lists(st.text(max_size=30), max_size=5),
    share=st.floats(0, 1),
)
def test_everything_can_be_drawn(source: list[str], target: list[str], share: float) -> None:
    weights = np.full((len(target), len(source)), share)
    assert draw_attention(attended(source, target, weights)).width > 100


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return import_module(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pictures need Pillow: pip install '\.\[vision\]'"):
        draw_attention(attended(["a"], ["b"]))
