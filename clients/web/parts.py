"""Pieces of the page that only show something."""

from collections.abc import Iterable, Sequence

from nicegui import ui

from clients.web.answers import Answer, Picture, Share, Table
from clients.web.problems import Problem
from clients.web.timing import CallTime

STYLE = """
.web-columns { display: grid; grid-template-columns: 24rem 1fr; gap: 1rem; width: 100%;
               align-items: start; }
@media (max-width: 60rem) { .web-columns { grid-template-columns: 1fr; } }
.web-card { width: 100%; }
.web-wide { width: 100%; }
.web-headline { font-size: 1.5rem; line-height: 2rem; overflow-wrap: anywhere; }
.web-caption { color: #555; font-size: 0.9rem; overflow-wrap: anywhere; }
.web-problem { background: #fdecea; color: #8c1d18; width: 100%; }
.web-pictures { display: flex; flex-wrap: wrap; gap: 1rem; width: 100%; }
.web-pictures figure { margin: 0; max-width: 100%; }
.web-pictures img { max-width: 100%; max-height: 40rem; display: block; border: 1px solid #ddd; }
.web-thumbnails { display: flex; flex-wrap: wrap; gap: 0.5rem; }
.web-thumbnails img { height: 5rem; border: 1px solid #ddd; }
.web-card .q-uploader__subtitle, .web-card .q-uploader__list { display: none; }
.web-share { display: grid; grid-template-columns: 10rem 1fr 4rem; gap: 0.5rem; width: 100%;
             align-items: center; }
"""


_ROWS_A_PAGE = 10


def show_problem(problem: Problem) -> None:
    """Shows why there is no answer."""
    with ui.card().classes("web-problem").props("role=alert flat"):
        ui.label(problem.headline).style("font-weight: bold")
        ui.label(problem.detail).style("overflow-wrap: anywhere")


def show_answer(answer: Answer) -> None:
    """Shows what a model said."""
    ui.label(answer.headline).classes("web-headline").props("data-part=headline")
    for note in answer.notes:
        ui.label(note).classes("web-caption")
    if answer.shares:
        show_shares(answer.shares)
    if answer.pictures:
        show_pictures(answer.pictures)
    if answer.table is not None and answer.table.rows:
        show_table(answer.table, "details")


def show_pictures(pictures: Iterable[Picture]) -> None:
    """Shows pictures beside each other, each with its caption."""
    with ui.element("div").classes("web-pictures"):
        for picture in pictures:
            with ui.element("figure"):
                show_image(picture.data_url, picture.caption)
                ui.label(picture.caption).classes("web-caption")


def show_image(address: str, caption: str) -> None:
    """Shows an image as it is."""
    image = ui.element("img")
    image.props["src"] = address
    image.props["alt"] = caption


def show_shares(shares: Iterable[Share]) -> None:
    """Shows a bar for each share."""
    for share in shares:
        with ui.element("div").classes("web-share").props("data-part=share"):
            ui.label(share.name)
            ui.linear_progress(share.value, show_value=False, size="1rem")
            ui.label(f"{share.value:.1%}")


def show_table(table: Table, part: str) -> None:
    """Shows rows below the names of their columns.

    Args:
        table: The table.
        part: What it is, for those who look for it in the page.
    """
    columns = [
        {"name": name, "label": name, "field": name, "align": "left"} for name in table.columns
    ]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    shown = ui.table(columns=columns, rows=rows, pagination=_page_rows(rows))
    shown.classes("web-wide").props(f"dense flat bordered data-part={part}")


def _page_rows(rows: Sequence[object]) -> int | None:
    return _ROWS_A_PAGE if len(rows) > _ROWS_A_PAGE else None


def show_times(calls: Sequence[CallTime]) -> None:
    """Shows how long each call took, here and in the server."""
    ui.label("Time").style("font-weight: bold")
    names = list(dict.fromkeys(name for call in calls for name in call.server_ms))
    columns = ("call", "version", "round trip", *(f"server: {name}" for name in names))
    show_table(Table(columns, [_time_row(call, names) for call in calls]), "times")
    if not names:
        ui.label("This server tells no times of its own.").classes("web-caption")


def _time_row(call: CallTime, names: Sequence[str]) -> tuple[str, ...]:
    times = (call.server_ms.get(name) for name in names)
    told = ("" if time_ms is None else f"{time_ms:.2f} ms" for time_ms in times)
    version = "" if call.version is None else str(call.version)
    return call.method, version, f"{call.round_trip_ms:.2f} ms", *told
