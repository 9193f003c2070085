import pytest

from models.common.run_folder import RunFolder


def test_details_round_trip(tmp_path):
    run = RunFolder(tmp_path / "run").create()
    run.write_details({"temperature": 1.5})
    assert run.read_details() == {"temperature": 1.5}


def test_unfinished_run_says_what_it_holds(tmp_path):
    (tmp_path / "log.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no finished run .*found: \['log.csv'\]"):
        RunFolder(tmp_path).read_details()
