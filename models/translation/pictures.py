"""Pictures of translations: attention maps, BLEU by length; and samples as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axis import Axis

from models.translation.metrics import LengthScore
from protocol.subwords import WORD_START

SHOWN_SPACE = "␣"
TOKEN_INCHES = 0.27
FEWEST_INCHES = 2.5


@dataclass(frozen=True)
class Sample:
    """One sentence, one good translation of it, and the model's."""

    source: str
    reference: str
    translation: str


def draw_attention(
    source_tokens: Sequence[str], target_tokens: Sequence[str], weights: np.ndarray, path: Path
) -> None:
    """Draws where the model looked as it wrote each token.

    Args:
        source_tokens: [S], as `SubwordTokenizer.pieces_of` shows them.
        target_tokens: [T], likewise.
        weights: float [T, S] in 0..1: rows target tokens, columns source tokens.
        path: picture to write.

    Raises:
        ValueError: if the weights have another shape, or one side has no tokens.

    Source: the form of figure 3 in Bahdanau et al. 2015.
    """
    expected = (len(target_tokens), len(source_tokens))
    if weights.shape != expected or not weights.size:
        raise ValueError(
            f"attention of {expected[0]} target and {expected[1]} source tokens must have the "
            f"shape {expected} without zeros, got {weights.shape}"
        )
    height, width = (max(FEWEST_INCHES, TOKEN_INCHES * count) for count in expected)
    figure, axes = plt.subplots(figsize=(width + 2.2, height + 1.4), layout="constrained")
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.xaxis.tick_top()
    _label_ticks(axes.xaxis, source_tokens)
    _label_ticks(axes.yaxis, target_tokens)
    for token, label in zip(source_tokens, axes.get_xticklabels(), strict=True):
        label.set_rotation(90 if len(token) > 1 else 0)
    axes.set(ylabel="translation")
    axes.set_title("source", fontsize=10)
    figure.colorbar(image, label="attention weight", fraction=0.05)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _label_ticks(axis: Axis, tokens: Sequence[str]) -> None:
    labels = [readable(token) for token in tokens]
    # A token such as "$x$" is text, not a formula.
    axis.set_ticks(range(len(tokens)), labels, fontsize=9, parse_math=False)


def readable(token: str) -> str:
    """Returns a token with a visible space in place of the mark that begins a word."""
    return token.replace(WORD_START, SHOWN_SPACE)


def plot_bleu_by_length(scores: Sequence[LengthScore], path: Path) -> None:
    """Draws one bar a range of lengths, with its BLEU and its number of sentences.

    Args:
        scores: from `bleu_by_length`.
        path: picture to write.
    """
    figure, axes = plt.subplots(figsize=(max(4.0, 1.0 * len(scores)), 4), layout="constrained")
    places = range(len(scores))
    bars = axes.bar(places, [score.bleu for score in scores], width=0.7)
    axes.bar_label(bars, [f"{score.bleu:.1f}\nn={score.n}" for score in scores], fontsize=8)
    axes.set_xticks(places, [range_name(score) for score in scores])
    axes.set(title="BLEU by sentence length", xlabel="source tokens", ylabel="BLEU")
    axes.set_ylim(0, max([10.0, *(1.18 * score.bleu for score in scores)]))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def range_name(score: LengthScore) -> str:
    """Returns e.g. `6–10`, `41+`, or `7` for a single length."""
    if score.high is None:
        return f"{score.low}+"
    return str(score.low) if score.low == score.high else f"{score.low}–{score.high}"


def write_samples(path: Path, rows: Sequence[Sample]) -> None:
    """Writes sample translations as TSV with a header; tabs and line breaks become spaces."""
    lines = ["source\treference\ttranslation"]
    for row in rows:
        cells = (row.source, row.reference, row.translation)
        lines.append("\t".join(_one_line(cell) for cell in cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _one_line(text: str) -> str:
    return text.translate(dict.fromkeys(map(ord, "\t\n\r"), " "))
