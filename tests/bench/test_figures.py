"""Medians, ratios, tables and the plot."""

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from tests.bench.figures import END, START, Figures, Findings, rows, text_lines, write_markdown
from tests.bench.plot import draw


def figures(per_second: float, client_cpu_us: float = 5.0) -> Figures:
    return Figures(per_second, 1.0, 2.0, 1e6 / per_second, client_cpu_us, 1234.0)


@pytest.fixture
def findings() -> Findings:
    found = Findings("`light`: a model")
    for batch, speed in ((1, 100.0), (8, 400.0)):
        found.rounds["raw"][batch] = [figures(speed, client_cpu_us=0)]
    found.rounds["server"][1] = [figures(20), figures(50), figures(90)]
    found.rounds["server"][64] = [figures(200)]
    found.failures["other"] = "not installed"
    return found


def test_medians_are_compared_with_the_batch_of_that_size(findings: Findings) -> None:
    _, one, eight, served, most = rows(findings)
    assert one[:4] == ("raw", "1", "100", "1.00")
    assert eight[:4] == ("raw", "8", "400", "1.00")
    assert served == ("server", "1", "50.0", "0.50", "1.00", "2.00", "20,000", "5.00", "1,234")
    assert most[:4] == ("server", "64", "200", "0.50")


def test_a_raw_engine_has_no_client(findings: Findings) -> None:
    assert rows(findings)[1][7] == "-"


def test_a_table_for_people(findings: Findings) -> None:
    title, heading, *_, failure, _ = text_lines(findings)
    assert title == "`light`: a model"
    assert heading.split()[:3] == ["at", "once", "requests/s"]
    assert failure == "other: not installed"


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path, findings: Findings) -> None:
    document = tmp_path / "speed.md"
    document.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write_markdown(document, "heading", [findings])
    text = document.read_text()
    assert text.startswith(f"before\n{START}\n\nheading\n\n### `light`: a model\n")
    assert "old" not in text
    assert "| server | 1 | 50.0 | 0.50 |" in text
    assert "|  | 64 | 200 |" in text  # the name is not repeated
    assert text.endswith(f"{END}\nafter\n")
    write_markdown(document, "heading", [findings])
    assert document.read_text() == text


def test_a_document_without_marks(tmp_path: Path, findings: Findings) -> None:
    document = tmp_path / "speed.md"
    document.write_text("nothing here\n")
    with pytest.raises(SystemExit, match="must have the lines"):
        write_markdown(document, "heading", [findings])


def test_the_same_figures_give_the_same_plot(tmp_path: Path, findings: Findings) -> None:
    for name in ("a.svg", "b.svg"):
        draw([findings], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "server" in (tmp_path / "a.svg").read_text()
