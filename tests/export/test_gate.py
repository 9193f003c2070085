import json
from pathlib import Path
from typing import Any

import pytest

from export import audit
from export.gate import GateError, check_gate
from protocol.contracts import CONTRACTS
from protocol.version_folder import Manifest


def manifest(task: str = "sentiment", **metrics: Any) -> Manifest:
    return Manifest(task, task, "now", metrics=metrics)


def test_a_version_that_is_not_worse_passes() -> None:
    served = manifest(reviews={"accuracy": 0.9}, old={"accuracy": 1.0})
    for accuracy in (0.95, 0.9, 0.891):
        words = check_gate(manifest(reviews={"accuracy": accuracy, "f1": 0.1}), served)
        assert words == f"accuracy on reviews {accuracy:.4g} (served 0.9)"


def test_a_worse_one_on_any_data_set_does_not() -> None:
    served = manifest(a={"accuracy": 0.9}, b={"accuracy": 0.8})
    new = manifest(a={"accuracy": 0.99}, b={"accuracy": 0.78})
    with pytest.raises(GateError, match=r"by more than 0\.01: .*accuracy on b 0\.78 \(served 0\.8"):
        check_gate(new, served)
    assert check_gate(new, served, margin=0.03)


def test_bleu_has_a_scale_of_its_own() -> None:
    served = manifest("translation", pairs={"bleu": 50.0})
    assert check_gate(manifest("translation", pairs={"bleu": 49.1}), served)
    with pytest.raises(GateError, match="by more than 1:"):
        check_gate(manifest("translation", pairs={"bleu": 48.9}), served)


def test_what_has_nothing_in_common_is_not_compared() -> None:
    words = check_gate(manifest(mine={"accuracy": 0.5}), manifest(reviews={"accuracy": 0.9}))
    assert words.startswith("not compared")


def test_another_task_is_refused() -> None:
    with pytest.raises(GateError, match="of the task sentiment, not face"):
        check_gate(manifest("face"), manifest())


def test_every_task_has_a_metric() -> None:
    for task in CONTRACTS:
        assert check_gate(manifest(task), manifest(task))


def test_each_release_is_a_line(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    audit.record(repository, "publish", "face", version=3)
    audit.record(repository, "rollback", "face", former=3, version=2)
    lines = [json.loads(line) for line in (repository / "audit.log").read_text().splitlines()]
    assert [(line["action"], line["version"]) for line in lines] == [
        ("publish", 3),
        ("rollback", 2),
    ]
    assert all(line["user"] and line["time"].endswith("+00:00") for line in lines)
