import numpy as np
import pytest
from PIL import Image

from models.common.splits import ALL, DEV, TEST, TRAIN, DataError
from models.face.config import TrainingConfig
from models.face.data import Face, find_lists, load_source

CONFIG = TrainingConfig(dev_fraction=0.3)


def write_face(path, shade=0, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).save(path)


@pytest.fixture
def lfw(tmp_path):
    """Ten people with three pictures each, in the layout of LFW."""
    for person in range(10):
        for number in range(1, 4):
            name = f"P_{person}"
            write_face(tmp_path / "images" / name / f"{name}_{number:04d}.jpg", shade=person)
    return tmp_path


@pytest.fixture
def orl(tmp_path):
    """Five people with four pictures each, in the layout of ORL."""
    for person in range(1, 6):
        for number in range(1, 5):
            write_face(tmp_path / f"s{person}" / f"{number}.pgm", shade=person)
    return tmp_path


def names_of(faces):
    return {face.identity for face in faces.faces}


def test_a_folder_without_lists_is_evaluated_whole(orl):
    source = load_source(orl, CONFIG)
    name, faces = source.choose(None)
    assert (name, len(faces.faces), faces.pairs) == (ALL, 20, ())
    np.testing.assert_array_equal(faces.identities, np.repeat(np.arange(5), 4))


def test_named_identities_are_held_out(orl):
    source = load_source(orl, TrainingConfig(dev_identities=("s2", "s5")))
    assert names_of(source.choose("dev")[1]) == {"s2", "s5"}
    assert names_of(source.splits[TRAIN]) == {"s1", "s3", "s4"}


def test_the_held_out_part_follows_from_the_name_alone(lfw):
    held_out = names_of(load_source(lfw, CONFIG).splits[DEV])
    assert 0 < len(held_out) < 10
    for person in range(10, 40):
        write_face(lfw / "images" / f"P_{person}" / "1.png")
    more = names_of(load_source(lfw, CONFIG).splits[DEV])
    assert {name for name in more if int(name[2:]) < 10} == held_out


def test_a_picture_is_read_in_colour_and_sent_as_a_file_a_server_takes(orl):
    face = load_source(orl, CONFIG).splits[ALL].faces[0]
    assert face.name == "s1/1"
    assert (face.pixels().shape, face.pixels().dtype) == ((10, 12, 3), np.uint8)
    assert face.encoded().startswith(b"\x89PNG")
    drawn = Face("a", np.zeros((3, 4, 3), np.uint8), "a/1")
    assert drawn.encoded().startswith(b"\x89PNG")


def test_a_jpeg_is_sent_as_it_stands(lfw):
    face = load_source(lfw, CONFIG).splits[ALL].faces[0]
    assert face.encoded() == face.source.read_bytes()


def test_lists_of_lfw_choose_people_and_pairs(lfw):
    (lfw / "peopleDevTrain.txt").write_text("3\nP_0\t3\nP_1\t3\nP_7\t1\nAbsent\t1\n")
    (lfw / "pairsDevTrain.txt").write_text("1\nP_0\t1\t3\nP_0\t2\tP_7\t1\n")
    (lfw / "peopleDevTest.txt").write_text("2\nP_2\t3\nP_3\t3\n")
    (lfw / "pairsDevTest.txt").write_text("1\nP_2\t1\t2\nP_2\t1\tP_3\t3\n")
    source = load_source(lfw, CONFIG)
    name, faces = source.choose(None)
    assert (name, names_of(faces)) == (TEST, {"P_2", "P_3"})
    assert [(p.first, p.second, p.same) for p in faces.pairs] == [(0, 1, True), (0, 5, False)]
    learnable = names_of(source.splits[TRAIN]) | names_of(source.splits.get(DEV, faces.of(bool)))
    assert learnable - {"P_2", "P_3"} == {"P_0", "P_1", "P_7"}
    assert names_of(source.splits[TRAIN]).isdisjoint({"P_2", "P_3"})
    assert len(source.splits[ALL].pairs) == 4


def test_a_pairs_list_alone_is_enough(lfw):
    (lfw / "pairsDevTest.txt").write_text("1\nP_4\t1\t2\nP_4\t1\tP_5\t3\n")
    name, faces = load_source(lfw, CONFIG).choose(None)
    assert (name, len(faces.faces), len(faces.pairs)) == (TEST, 30, 2)


def test_a_list_of_ten_folds_counts_for_all(lfw):
    (lfw / "pairs.txt").write_text("2\t1\nP_4\t1\t2\nP_4\t1\tP_5\t3\nP_1\t1\t2\nP_4\t1\tP_9\t3\n")
    name, faces = load_source(lfw, CONFIG).choose(None)
    assert (name, sum(pair.same for pair in faces.pairs), len(faces.pairs)) == (ALL, 2, 4)


def test_a_training_list_is_judged_on_its_held_out_part(lfw):
    people = "".join(f"P_{person}\t3\n" for person in range(10))
    (lfw / "peopleDevTrain.txt").write_text(f"10\n{people}")
    pairs = "".join(f"P_{person}\t1\t2\n" for person in range(10))
    (lfw / "pairsDevTrain.txt").write_text(f"10\n{pairs}")
    name, faces = load_source(lfw, CONFIG).choose(None)
    assert name == DEV
    assert len(faces.pairs) == len(names_of(faces))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("P_0\t1", r"pairs.txt:2: expected 3 or 4 columns, got 2"),
        ("P_0\t1\t9", r"pairs.txt:2: no image P_0/P_0_0009 or P_0/9 among 30 images"),
        ("P_0\tone\t2", r"pairs.txt:2: expected the number of an image, got 'one'"),
        ("Nobody\t1\t2", r"pairs.txt:2: no image Nobody/Nobody_0001"),
    ],
)
def test_a_wrong_line_of_pairs_is_named(lfw, line, message):
    (lfw / "pairs.txt").write_text(f"1\n{line}\n")
    with pytest.raises(DataError, match=message):
        load_source(lfw, CONFIG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("P_0\t1\n", r"people.txt:1: expected the number of entries"),
        ("1\nP_0\n", r"people.txt:2: expected name<TAB>number"),
        ("0\n", r"people.txt: names nobody"),
        ("1\nAbsent\t2\n", r"people.txt: none of its 1 people has a folder here"),
    ],
)
def test_a_wrong_list_of_people_is_named(lfw, text, message):
    (lfw / "people.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        load_source(lfw, CONFIG)


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="no such data folder"):
        load_source(tmp_path / "absent", CONFIG)
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match=r"expected a folder for each identity.*found: notes"):
        load_source(tmp_path, CONFIG)


def test_an_unreadable_picture_is_named(orl):
    (orl / "s1" / "1.pgm").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.pgm cannot be read as an image"):
        load_source(orl, CONFIG).splits[ALL].faces[0].pixels()


def test_two_lists_for_one_purpose_are_refused(lfw):
    (lfw / "pairs.txt").write_text("0\n")
    (lfw / "pairs_b.txt").write_text("0\n")
    with pytest.raises(DataError, match="two pairs lists for all"):
        find_lists(lfw)


def test_an_absent_split_is_named(orl):
    with pytest.raises(DataError, match="has no test split"):
        load_source(orl, CONFIG).choose("test")


def test_the_digest_follows_names_sizes_and_lists(lfw):
    before = load_source(lfw, CONFIG).digest
    assert load_source(lfw, CONFIG).digest == before
    (lfw / "people.txt").write_text("1\nP_0\t3\n")
    assert load_source(lfw, CONFIG).digest != before


@pytest.mark.data("faces_lfw")
def test_the_shared_lfw_is_read_as_described(data_dir):
    source = load_source(data_dir / "faces_lfw", TrainingConfig())
    assert len(source.splits[ALL].faces) == 7858
    assert len(source.splits[ALL].pairs) == 2200
    assert len(names_of(source.splits[ALL])) == 2371
    assert names_of(source.splits[TRAIN]).isdisjoint(names_of(source.splits[DEV]))
    assert source.default_split == DEV


@pytest.mark.data("faces_orl")
def test_the_shared_orl_is_read_as_described(data_dir):
    source = load_source(data_dir / "faces_orl", TrainingConfig())
    name, faces = source.choose(None)
    assert (name, len(faces.faces)) == (ALL, 300)
    assert faces.faces[0].pixels().shape == (112, 92, 3)
