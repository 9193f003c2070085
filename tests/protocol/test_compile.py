import pytest

from protocol import compile as protos


def test_descriptors_are_up_to_date():
    assert protos.compile_descriptors() == protos.DESCRIPTORS.read_bytes(), "run `make protos`"


def test_compiling_twice_gives_the_same_bytes():
    assert protos.compile_descriptors() == protos.compile_descriptors()


def test_broken_proto(tmp_path, monkeypatch):
    (tmp_path / "broken.proto").write_text("no proto")
    monkeypatch.setattr(protos, "PROTO_FOLDER", tmp_path)
    with pytest.raises(RuntimeError, match="protoc could not compile"):
        protos.compile_descriptors()


def test_main_tells_whether_the_file_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(protos, "DESCRIPTORS", tmp_path / "descriptors.binpb")
    assert protos.main() == 0
    assert capsys.readouterr().out.endswith("bytes, changed\n")
    assert protos.main() == 0
    assert capsys.readouterr().out.endswith("bytes, unchanged\n")
