"""The arithmetic of the benchmark."""

import json
from pathlib import Path
from string import ascii_letters, punctuation

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from protocol.subwords import WORD_START, SubwordTokenizer
from tests.bench.raw_model import RawOnnx, byte_strings
from tests.bench.sentences import sentences
from tests.bench.serving import Case, Measurement, main, metric_total, summarise
from tests.bench.texts import LONG_WORDS, SHORT_WORDS, long_texts, short_texts
from tests.bench.tiny_model import publish_tiny_model
from tests.bench.workloads import LONG_TOKENS, SAMPLES_FOLDER, Workload, workloads
from tests.protocol.tiny_translator import publish_tiny_translator


def measurement(per_second: float, cpu_ms: float) -> Measurement:
    return Measurement(per_second, p50_ms=1.0, p99_ms=2.0, cpu_ms=cpu_ms, batch_rows=1.0)


def case(name: str, limit: str) -> Case:
    return Case("short", name, lambda seconds: measurement(1, 1), limit)


def test_medians_and_ratios() -> None:
    cases = [case("raw", "raw"), case("served", "raw")]
    rounds = [
        [measurement(100, 0.5), measurement(10, 5)],
        [measurement(200, 1.0), measurement(50, 4)],
        [measurement(300, 9.0), measurement(60, 3)],
    ]
    raw, served = summarise(cases, rounds)
    assert (raw.per_second, raw.speed_to_raw, raw.cpu_to_raw) == (200, 1, 1)
    assert (served.per_second, served.speed_to_raw, served.cpu_to_raw) == (50, 0.25, 4)


def test_metric_total_sums_the_series_of_one_name() -> None:
    page = 'rows_sum{model="a",x="}"} 3.5\nrows_sum{model="b"} 2\nrows_sum_created 9\nother 1\n'
    assert metric_total(page, "rows_sum") == 5.5
    assert metric_total(page, "other") == 1


@pytest.mark.parametrize(("texts", "words"), [(short_texts, SHORT_WORDS), (long_texts, LONG_WORDS)])
def test_texts_are_reproducible_and_of_the_stated_length(
    texts: object, words: tuple[int, int]
) -> None:
    assert callable(texts)
    found = texts(20)
    assert found == texts(20)
    assert found != texts(20, seed=1)
    assert len(set(found)) == 20
    assert all(words[0] <= len(text.split()) <= words[1] for text in found)


def test_the_raw_engine_searches_as_the_server_does(tmp_path: Path) -> None:
    publish_tiny_translator(tmp_path)
    raw = RawOnnx(tmp_path, workloads("sentiment", tmp_path)[0])
    assert raw.run(["abc d", ""])["translation"][1] == b""


def test_requests_to_a_translator_say_how_wide_the_beam_is(tmp_path: Path) -> None:
    publish_tiny_translator(tmp_path)
    load = Workload("short", "short", "text", ["abc d", "d"], (1,), 1, {"beam_width": 1})
    assert RawOnnx(tmp_path, load).run(load.items)["alternatives"].shape == (2, 1)


@pytest.mark.parametrize("tokens", [10, 40])
def test_sentences_have_the_wanted_number_of_tokens(tokens: int) -> None:
    tokenizer = SubwordTokenizer(
        [WORD_START, *ascii_letters, *punctuation], {}, max_tokens=LONG_TOKENS * 10
    )
    found = sentences(tokenizer, 5 * tokens, count=8)
    assert found == sentences(tokenizer, 5 * tokens, count=8)
    assert len(set(found)) == 8
    assert {len(tokenizer.encode(text).ids) for text in found} == {5 * tokens}


def test_image_workloads_are_the_samples_of_the_version(tmp_path: Path) -> None:
    samples = tmp_path / SAMPLES_FOLDER
    samples.mkdir(parents=True)
    (samples / "b.png").write_bytes(b"second")
    (samples / "a.jpg").write_bytes(b"first")
    (load,) = workloads("detection", tmp_path)
    assert load.items[:3] == [b"first", b"second", b"first"]
    assert byte_strings(load.items[:2]).tolist() == [b"first", b"second"]
    with pytest.raises(SystemExit, match="no sample images"):
        workloads("face", tmp_path / "empty")


def test_unknown_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no model 'nothing'"):
        main(["--model", "nothing", "--repository", str(tmp_path)])


@pytest.mark.e2e
def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny_model(tmp_path)
    results = tmp_path / "results.json"
    options = ["--repository", str(tmp_path), "--seconds=1", "--rounds=1", f"--json={results}"]
    assert main(options) == 0
    assert "async client, 32 at a time" in capsys.readouterr().out
    rows = json.loads(results.read_text())["results"]
    assert len(rows) == 2 * (2 + 3)
    assert all(row["per_second"] > 0 and row["cpu_ms"] >= 0 for row in rows)
