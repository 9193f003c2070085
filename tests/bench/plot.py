"""Requests per second over requests at once, one panel a model."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tests.bench.figures import Findings

_COLUMNS = 2
_WIDTH, _HEIGHT = 4.6, 3.2  # of a panel, in inches
_RAW = "raw"
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 8}


def draw(all_findings: Sequence[Findings], path: Path) -> None:
    """Writes the plot; the same figures give the same file.

    Args:
        all_findings: of each model.
        path: an .svg file.
    """
    mpl.use("agg")
    with mpl.rc_context(_SETTINGS):
        figure = _draw(all_findings)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _draw(all_findings: Sequence[Findings]) -> Figure:
    columns = min(_COLUMNS, len(all_findings))
    lines = ceil(len(all_findings) / columns)
    figure, panels = plt.subplots(
        lines, columns, squeeze=False, layout="constrained",
        figsize=(columns * _WIDTH, lines * _HEIGHT + 0.6),
    )  # fmt: skip
    names = list(dict.fromkeys(name for found in all_findings for name in found.rounds))
    colours = {name: f"C{number}" for number, name in enumerate(names)}
    for panel, findings in zip(panels.flat, all_findings, strict=False):
        _draw_panel(panel, findings, colours)
    for panel in list(panels.flat)[len(all_findings) :]:
        panel.set_axis_off()
    handles = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=5, frameon=False
    )
    return figure


def _draw_panel(panel: Any, findings: Findings, colours: dict[str, str]) -> None:
    sizes: set[int] = set()
    for name, medians in findings.medians().items():
        at_once = sorted(medians)
        sizes.update(at_once)
        panel.plot(
            at_once,
            [medians[size].per_second for size in at_once],
            label=name,
            color=colours[name],
            linestyle="--" if name.startswith(_RAW) else "-",
            marker="o",
            markersize=3,
        )
    panel.set(
        title=findings.title.partition(":")[0].strip("`"),
        xscale="log",
        yscale="log",
        xlabel="requests at once (raw: rows in a batch)",
        ylabel="requests/s",
    )
    panel.set_xticks(sorted(sizes), map(str, sorted(sizes)))
    panel.minorticks_off()
    panel.grid(alpha=0.3)
