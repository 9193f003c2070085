"""Answers as aligned lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.calls import ModelMetadata, VersionStatus
from clients.report import metadata_lines, sentiment_lines, shortened, status_lines, table
from clients.sentiment import SentimentResult
from protocol.contracts import SignatureSpec, TensorSpec


def result(text: str, label: str = "positive", truncated: bool = False) -> SentimentResult:
    return SentimentResult(text, label, 0.9876, (0.0124, 0.9876), 3, truncated)


def test_table_aligns_columns() -> None:
    assert table([("a", "bb"), ("ccc", "d")]) == ["a    bb", "ccc  d"]
    assert table([("a", "1"), ("b", "20")], align_right=[1]) == ["a   1", "b  20"]
    assert table([]) == []


def test_sentiment_lines() -> None:
    assert sentiment_lines([result("a\nfilm"), result("bad", "negative", truncated=True)]) == [
        "positive   98.8%  a film",
        "negative   98.8%  bad [truncated]",
    ]


@given(text=st.text(), width=st.integers(10, 50))
def test_shortened_texts_fit_on_a_line(text: str, width: int) -> None:
    line = shortened(text, width)
    assert len(line) <= width
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "line"), [("", ""), ("x" * 10, "x" * 10), ("x" * 11, "x" * 7 + "...")]
)
def test_shortened(text: str, line: str) -> None:
    assert shortened(text, 10) == line


def test_status_lines() -> None:
    versions = [VersionStatus(12, "AVAILABLE"), VersionStatus(3, "END", "no such file")]
    assert status_lines(versions) == [
        "VERSION  STATE      ERROR",
        "12       AVAILABLE",
        "3        END        no such file",
    ]


def test_metadata_lines() -> None:
    signature = SignatureSpec(
        "serving_default",
        (TensorSpec("image", "uint8", (None, None, 3)), TensorSpec("top", "int32", (), True)),
        (TensorSpec("label", "string", (None,)),),
    )
    assert metadata_lines(ModelMetadata("m", 2, {"serving_default": signature})) == [
        "model m, version 2",
        "SIGNATURE                NAME   TENSOR",
        "serving_default  input   image  uint8[?,?,3]",
        "serving_default  input   top    int32[]       optional",
        "serving_default  output  label  string[?]",
    ]
