import threading

import pytest

from export.repository import RETIRED, STAGING, ModelRepository, RepositoryError


def make_version(folder, content="v", files=20):
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / f"file{number}").write_text(content)
    return folder


@pytest.fixture
def repository(tmp_path):
    return ModelRepository(tmp_path / "repository")


def test_versions_count_up(repository, tmp_path):
    source = make_version(tmp_path / "a")
    assert [repository.publish("m", source) for _ in range(3)] == [1, 2, 3]
    assert repository.versions("m") == [1, 2, 3]
    assert repository.models() == ["m"]
    assert source.is_dir(), "a folder outside the repository is copied, not taken"


def test_nothing_is_left_in_staging(repository, tmp_path):
    with repository.staging("m") as staging:
        make_version(staging / "version")
        repository.publish("m", staging / "version")
    assert list((repository.path / STAGING).iterdir()) == []


def test_failed_export_publishes_nothing(repository):
    def fail():
        with repository.staging("m") as staging:
            make_version(staging / "version")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert repository.versions("m") == []
    assert list((repository.path / STAGING).iterdir()) == []


def test_empty_folder_is_refused(repository, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RepositoryError, match="nothing to publish"):
        repository.publish("m", tmp_path / "empty")


def test_rollback_keeps_the_version_and_its_number(repository, tmp_path):
    source = make_version(tmp_path / "a")
    repository.publish("m", source)
    repository.publish("m", source)
    assert repository.rollback("m") == (2, 1)
    assert repository.versions("m") == [1]
    assert (repository.path / RETIRED / "m" / "2").is_dir()
    assert repository.publish("m", source) == 3, "a retired number is never given again"


def test_rollback_needs_an_older_version(repository, tmp_path):
    with pytest.raises(RepositoryError, match="cannot roll back m: it has no version"):
        repository.rollback("m")
    repository.publish("m", make_version(tmp_path / "a"))
    with pytest.raises(RepositoryError, match="it has version 1, needs an older one"):
        repository.rollback("m")


def test_prune_keeps_the_newest(repository, tmp_path):
    source = make_version(tmp_path / "a")
    for _ in range(5):
        repository.publish("m", source)
    repository.rollback("m")
    assert repository.prune("m", keep=2) == [1, 2, 5]
    assert repository.versions("m") == [3, 4]
    assert repository.retired("m") == []
    with pytest.raises(RepositoryError, match="keep at least 1"):
        repository.prune("m", keep=0)


def test_folders_that_are_no_versions_are_passed_over(repository, tmp_path):
    repository.publish("m", make_version(tmp_path / "a"))
    (repository.path / "m" / "notes").mkdir()
    (repository.path / "m" / "7.tmp").mkdir()
    assert repository.versions("m") == [1]


def test_readers_never_see_half_a_version(repository, tmp_path):
    """One thread publishes and rolls back, another lists all it can see."""
    sources = [make_version(tmp_path / name, content=name) for name in ("a", "b")]
    done, incomplete = threading.Event(), []

    def read():
        while not done.is_set():
            for version in repository.versions("m"):
                folder = repository.version_folder("m", version)
                try:
                    names = list(folder.iterdir())
                except FileNotFoundError:
                    continue  # rolled back in between
                if len(names) != 20:
                    incomplete.append((version, len(names)))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(30):
        repository.publish("m", sources[turn % 2])
        if turn % 3 == 2:
            repository.rollback("m")
    done.set()
    reader.join()
    assert incomplete == []


def test_publishers_at_the_same_time_get_different_versions(repository, tmp_path):
    source = make_version(tmp_path / "a", files=3)
    versions = []

    def publish():
        for _ in range(5):
            version = repository.publish("m", source)
            versions.append(version)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 21))
