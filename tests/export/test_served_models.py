from types import SimpleNamespace

import pytest

from export import version
from export.__main__ import main
from export.served_models import SERVED, ServedModel
from models.__main__ import TASKS
from protocol.contracts import CONTRACTS


def test_every_task_is_served_and_every_name_has_a_task():
    assert {served.task for served in SERVED.values()} == set(TASKS) == set(CONTRACTS)
    assert SERVED["translation_dates"].task == SERVED["translation"].task == "translation"


def test_names_share_no_weights():
    folders = [(served.task, served.weights) for served in SERVED.values()]
    assert len(set(folders)) == len(folders)


def test_shipped_run_is_none_where_nothing_ships():
    assert SERVED["sentiment"].shipped_run().name == "weights"
    assert ServedModel("sentiment", "weights/klingon").shipped_run() is None
    assert ServedModel("sentiment", "weights/assets").shipped_run() is None


@pytest.fixture
def exports(monkeypatch):
    """Records what would be exported."""
    calls = []

    def exporter_of(task):
        return SimpleNamespace(
            model_to_export=lambda run, scratch: f"model of {run}",
            sample_examples=lambda: [task],
        )

    def export_version(task, model, folder, formats, examples, name, data):
        calls.append((task, model, name, examples))
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")

    monkeypatch.setattr(version, "exporter_of", exporter_of)
    monkeypatch.setattr(version, "export_version", export_version)
    return calls


def test_each_name_is_published_from_its_own_weights(exports, tmp_path):
    names = ["translation", "translation_dates", "sentiment"]
    assert main(["publish", *names, "--repository", str(tmp_path)]) == 0
    assert exports == [
        (SERVED[name].task, f"model of {SERVED[name].shipped_run()}", name, [SERVED[name].task])
        for name in names
    ]
    for name in names:
        assert (tmp_path / name / "1" / "manifest.json").is_file()


def test_a_named_run_goes_before_the_shipped_weights(exports, tmp_path):
    out = str(tmp_path / "version")
    assert main(["translation_dates", "--run", "runs/mine", "--out", out]) == 0
    assert exports == [("translation", "model of runs/mine", "translation_dates", ["translation"])]
