"""Answers as aligned lines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.calls import ModelMetadata, VersionStatus
from clients.detection import Detection, DetectionResult
from clients.embeddings import Candidate, Identification, Verification
from clients.gallery import Binding, Example, Person
from clients.report import (
    alternative_lines,
    attention_lines,
    detection_lines,
    embedding_lines,
    gallery_lines,
    identification_lines,
    metadata_lines,
    saved_lines,
    segmentation_lines,
    sentiment_lines,
    shortened,
    status_lines,
    table,
    translation_line,
    verification_line,
)
from clients.segmentation import SegmentationResult
from clients.sentiment import SentimentResult
from clients.translation import Alternative, AttentionResult, TranslationResult
from protocol.contracts import SignatureSpec, TensorSpec
from tests.clients.faces import face


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


def test_translation_lines() -> None:
    found = (Alternative("le chat", -0.25), Alternative("un chat", -12.5))
    translated = TranslationResult("the cat", "le chat", -0.25, found, truncated=True)
    assert translation_line(translated) == "le chat [truncated]"
    assert alternative_lines(translated) == [
        "le chat [truncated]",
        "   -0.250  le chat",
        "  -12.500  un chat",
    ]


def test_attention_lines() -> None:
    weights = np.array([[0.7, 0.2, 0.06, 0.04], [0.09, 0.08, 0.08, 0.75]], np.float32)
    weights = np.concatenate([weights, np.full((1, 4), 0.05, np.float32)])
    read, said = ("▁the", "▁c", "at", "</s>"), ("▁le", "▁chat", "</s>")
    attended = AttentionResult("the cat", "le chat", -0.5, read, said, weights, truncated=False)
    assert attention_lines(attended) == [
        "le chat",
        "  ␣le    ␣the 0.70, ␣c 0.20",
        "  ␣chat  </s> 0.75",
        "  </s>   ␣the 0.05",
    ]


def test_detection_lines() -> None:
    found = (
        Detection("RBC", 0, 0.98765, (1.0, 2.0, 103.25, 40.0)),
        Detection("Platelets", 2, 0.5, (10.0, 20.0, 30.0, 40.0)),
        Detection("RBC", 0, 0.4, (0.0, 0.0, 1.0, 1.0)),
    )
    assert detection_lines(DetectionResult("a.png", found, "detection", 1)) == [
        "a.png: 2 RBC, 1 Platelets",
        "  RBC        0.988   1.0   2.0  103.2  40.0",
        "  Platelets  0.500  10.0  20.0   30.0  40.0",
        "  RBC        0.400   0.0   0.0    1.0   1.0",
    ]
    assert detection_lines(DetectionResult("a.png", (), "detection", 1)) == ["a.png: nothing found"]


def test_segmentation_lines() -> None:
    mask = np.array([[0, 0, 0, 1]], np.uint8)
    segmented = SegmentationResult("a.png", mask, ("background", "cell"), "segmentation", 1)
    assert segmentation_lines(segmented, {"cell": 2}) == [
        "a.png: 4 x 1 pixels",
        "  background   75.0%",
        "  cell         25.0%  2 objects",
    ]


def test_face_lines() -> None:
    assert embedding_lines([face()]) == [
        "image  model 'face' version 1  +1.000 +0.000 +0.000 +0.000 ..."
    ]
    assert verification_line(Verification(True, 0.1234, 0.9, 0.01)) == (
        "same person: distance 0.123, threshold 0.900 (false accepts 1.0%)"
    )
    assert verification_line(Verification(False, 1.5, 0.9, None)) == (
        "different people: distance 1.500, threshold 0.900"
    )
    candidates = (Candidate("Ada", 1.2), Candidate("Bob", 1.25))
    assert identification_lines(Identification("v.png", None, 1.2, 0.9, 0.001, candidates)) == [
        "v.png: unknown (threshold 0.900 (false accepts 0.1%))",
        "  Ada  1.200",
        "  Bob  1.250",
    ]


def test_gallery_lines() -> None:
    examples = (Example(1, "a.png", "2025-01-01T00:00:00+00:00"), Example(12, "b.png", "later"))
    assert gallery_lines([Person("Ada", "form 7", examples)], Binding("face", 3, (1.0, 0.5))) == [
        "embeddings of model face, version 3",
        "NAME  ID  ENROLLED                   CONSENT  SOURCE",
        "Ada   1   2025-01-01T00:00:00+00:00  form 7   a.png",
        "Ada   12  later                      form 7   b.png",
    ]
    assert gallery_lines([], None) == ["the gallery is empty"]


def test_saved_lines() -> None:
    assert saved_lines(["out/a.boxes.png"]) == ["  saved out/a.boxes.png"]
    assert saved_lines([]) == []


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
