import csv
import json

import numpy as np
import pytest
from sklearn import metrics as reference

from models.__main__ import main
from models.sentiment.evaluate import evaluate, predict
from models.sentiment.synthetic import make_examples

LABELS = ("negative", "positive")


class Backwards:
    """A backend that calls every text with an even length positive, and answers in float32."""

    def run_signature(self, inputs):
        lengths = np.array([len(text) for text in inputs["text"]])
        positive = np.where(lengths % 2 == 0, 0.9, 0.2).astype(np.float32)
        return {
            "probability": np.stack([1 - positive, positive], axis=1),
            "tokens": lengths.astype(np.int32),
            "truncated": lengths > 60,
        }


def test_predictions_keep_the_order():
    texts = ["x" * n for n in (5, 2, 200, 8, 7)] * 40
    predictions = predict(Backwards(), texts)
    assert predictions.tokens.tolist() == [5, 2, 200, 8, 7] * 40
    assert predictions.probabilities[1, 1] == pytest.approx(0.9)


def test_writes_metrics_pictures_and_mistakes(tmp_path):
    examples = make_examples(200, 3)
    metrics = evaluate(Backwards(), examples, LABELS, tmp_path)
    truth = [example.class_id for example in examples]
    predicted = [int(len(example.text.encode()) % 2 == 0) for example in examples]
    assert metrics.accuracy == pytest.approx(reference.accuracy_score(truth, predicted))
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert set(report) == {"accuracy", "f1", "roc_auc", "ece", "n", "truncated"}
    for name in ("roc", "precision_recall", "confusion_matrix", "calibration"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    with (tmp_path / "mistakes.csv").open(newline="") as file:
        mistakes = list(csv.DictReader(file))
    assert len(mistakes) == sum(t != p for t, p in zip(truth, predicted, strict=True))
    assert float(mistakes[0]["confidence"]) == 0.9


def test_command_prints_one_json_line_last(tiny_run, tmp_path, capsys):
    rows = "".join(f"{e.text}\t{e.class_id}\n" for e in make_examples(80, 5))
    (tmp_path / "test.tsv").write_text(f"text\tlabel\n{rows}")
    status = main(
        [
            "evaluate",
            "sentiment",
            f"--run={tiny_run}",
            f"--data={tmp_path}",
            f"--output={tmp_path / 'out'}",
        ]
    )
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert status == 0
    assert set(line) == {"accuracy", "f1", "roc_auc", "ece", "n"}
    assert line["n"] == 80
    assert line["accuracy"] > 0.9
    assert (tmp_path / "out" / "learning_curves.png").is_file()


def test_command_names_what_is_missing(tiny_run, tmp_path, capsys):
    status = main(["evaluate", "sentiment", "--run", str(tiny_run), "--data", str(tmp_path / "no")])
    assert status == 1
    assert "no such data folder" in capsys.readouterr().err
