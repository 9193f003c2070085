"""How far a command is."""

import io

import pytest

from clients.commands.output import Progress


def test_progress_replaces_its_line_and_ends_it() -> None:
    terminal = io.StringIO()
    with Progress(terminal, "lines", total=3000) as progress:
        progress.clear()  # nothing is there yet
        progress.advance(1000)
        progress.clear()
        progress.advance(1500)
    first, second, third, fourth = terminal.getvalue().split("\r\033[K")
    assert first == third == ""
    assert second.startswith("1,000 of 3,000 lines, ")
    assert fourth.startswith("2,500 of 3,000 lines, ")
    assert fourth.endswith(" per second\n")


def test_progress_without_a_total() -> None:
    terminal = io.StringIO()
    with Progress(terminal, "lines") as progress:
        progress.advance(1)
    assert "1 lines, " in terminal.getvalue()


def interrupted(terminal: io.StringIO) -> None:
    with Progress(terminal, "lines") as progress:
        progress.advance(1)
        raise KeyboardInterrupt


def test_an_interrupted_line_is_ended() -> None:
    terminal = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        interrupted(terminal)
    assert terminal.getvalue().endswith("\n")


def test_progress_that_nobody_sees() -> None:
    with Progress(None, "lines") as progress:
        progress.advance(1)
        progress.clear()
