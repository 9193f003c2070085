import json

import numpy as np
import pytest
from PIL import Image

from models.common.splits import DataError
from models.detection.data import image_size, load_source

LABELS = ("cat", "dog")


def write_image(path, width=40, height=30, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "grey").save(path, **save)


def voc_xml(boxes, width=40, height=30):
    objects = "".join(
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2), difficult in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>"


@pytest.fixture
def voc(tmp_path):
    """Two images in VOC layout, without lists."""
    (tmp_path / "Annotations").mkdir()
    for name, boxes in {
        "a": [("dog", (1, 2, 21, 22), 0), ("cat", (0, 0, 40, 30), 1)],
        "b": [],
    }.items():
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "Annotations" / f"{name}.xml").write_text(voc_xml(boxes))
    return tmp_path


@pytest.fixture
def coco(tmp_path):
    """One image in COCO layout; returns the folder and the json's content."""
    write_image(tmp_path / "images" / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": 30, "width": 40}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [1, 2, 20, 20], "iscrowd": 0},
            {"image_id": 7, "category_id": 9, "bbox": [0, 0, 40, 30], "iscrowd": 1},
        ],
        "categories": [{"id": 9, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    return tmp_path, content


def write_coco(folder, content, name="annotations/instances_val.json"):
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(json.dumps(content))


def check_first(image):
    assert image.boxes_xyxy.tolist() == [[1, 2, 21, 22], [0, 0, 40, 30]]
    assert image.class_ids.tolist() == [1, 0]
    assert image.ignored.tolist() == [False, True]
    assert (image.height, image.width) == (30, 40)


def test_reads_voc(voc):
    source = load_source(voc, LABELS, 0.5)
    check_first(source.splits["all"][0])
    assert source.splits["all"][1].boxes_xyxy.shape == (0, 4)
    assert source.named == frozenset()
    assert len(source.splits["train"]) + len(source.splits["dev"]) == 2


def test_reads_voc_lists(voc):
    lists = voc / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b 1\n")
    (lists / "val.txt").write_text("a\n\n")
    source = load_source(voc, LABELS, 0.2)
    assert source.named == {"train", "dev"}
    assert [i.path.stem for i in source.splits["dev"]] == ["a"]
    assert [i.path.stem for i in source.splits["train"]] == ["b"]
    (lists / "test.txt").write_text("zebra\n")
    with pytest.raises(DataError, match=r"test\.txt: no annotation for zebra"):
        load_source(voc, LABELS, 0.2)


def test_a_test_split_is_never_trained_on(voc):
    lists = voc / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "test.txt").write_text("a\nb\n")
    assert load_source(voc, LABELS, 0.5).splits["train"] == []


def test_reads_coco(coco):
    folder, content = coco
    write_coco(folder, content)
    source = load_source(folder, LABELS, 0.2)
    check_first(source.splits["dev"][0])
    assert source.named == {"dev"}


def test_reads_coco_of_one_folder_for_each_split(coco):
    folder, content = coco
    for split in ("train", "valid"):
        write_image(folder / split / "a.png")
        write_coco(folder, content, f"{split}/_annotations.coco.json")
    source = load_source(folder, LABELS, 0.2)
    assert source.named == {"train", "dev"}
    assert source.splits["dev"][0].path == folder / "valid" / "a.png"


def test_digest_follows_the_content(voc):
    before = load_source(voc, LABELS, 0.2).digest
    assert load_source(voc, LABELS, 0.2).digest == before
    (voc / "Annotations" / "b.xml").write_text(voc_xml([("cat", (0, 0, 9, 9), 0)]))
    assert load_source(voc, LABELS, 0.2).digest != before


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([("cow", (0, 0, 5, 5), 0)], r"a\.xml: unknown class 'cow' in a\.jpg; expected cat, dog"),
        ([("cat", (0, 0, 45, 5), 0)], r"a\.xml: box .* lies outside the 40x30 image a\.jpg"),
        ([("cat", (-3, 0, 5, 5), 0)], r"a\.xml: box .* lies outside the 40x30 image a\.jpg"),
        ([("cat", (5, 5, 5, 9), 0)], r"a\.xml: a box .* of a\.jpg has no area"),
        ([("cat", ("x", 0, 5, 5), 0)], r"a\.xml: cannot be read"),
    ],
)
def test_wrong_voc_boxes_are_named(voc, boxes, message):
    (voc / "Annotations" / "a.xml").write_text(voc_xml(boxes))
    with pytest.raises(DataError, match=message):
        load_source(voc, LABELS, 0.2)


def test_rounding_outside_the_image_is_clipped(voc):
    (voc / "Annotations" / "a.xml").write_text(voc_xml([("cat", (-0.5, 0, 40.9, 30), 0)]))
    image = load_source(voc, LABELS, 0.2).splits["all"][0]
    assert image.boxes_xyxy.tolist() == [[0, 0, 40, 30]]


def test_wrong_voc_files_are_named(voc):
    annotation = voc / "Annotations" / "a.xml"
    annotation.write_text(voc_xml([], width=41))
    with pytest.raises(DataError, match=r"says a\.jpg is 41x30, but the image is 40x30"):
        load_source(voc, LABELS, 0.2)
    annotation.write_text("<annotation>")
    with pytest.raises(DataError, match=r"a\.xml: cannot be read"):
        load_source(voc, LABELS, 0.2)
    annotation.write_text(voc_xml([]))
    (voc / "JPEGImages" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image"):
        load_source(voc, LABELS, 0.2)
    (voc / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.xml: no image"):
        load_source(voc, LABELS, 0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"].clear(), "no entry"),
        (lambda c: c["images"][0].update(file_name="z.png"), "no image z.png; looked in"),
        (lambda c: c["annotations"][0].update(bbox=[30, 0, 20, 5]), "lies outside the 40x30"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2]), "cannot be read"),
        (lambda c: c["categories"][1].update(name="cow"), "unknown class 'cow'"),
    ],
)
def test_wrong_coco_files_are_named(coco, change, message):
    folder, content = coco
    change(content)
    write_coco(folder, content)
    with pytest.raises(DataError, match=rf"instances_val\.json: .*{message}"):
        load_source(folder, LABELS, 0.2)


def test_unknown_layouts_are_named(tmp_path):
    with pytest.raises(DataError, match="no such data folder"):
        load_source(tmp_path / "nowhere", LABELS, 0.2)
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(DataError, match=r"expected Annotations .* found: readme\.txt"):
        load_source(tmp_path, LABELS, 0.2)
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(DataError, match="no labelled images"):
        load_source(tmp_path, LABELS, 0.2)


def test_size_is_that_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    write_image(tmp_path / "turned.jpg", exif=exif)
    assert image_size(tmp_path / "turned.jpg") == (40, 30)


@pytest.mark.data("det_bccd")
def test_blood_cells(data_dir):
    source = load_source(data_dir / "det_bccd", ("RBC", "WBC", "Platelets"), 0.2)
    assert len(source.splits["train"]) == 205
    assert len(source.splits["dev"]) == 87
    counts = np.bincount(np.concatenate([i.class_ids for i in source.splits["all"]]))
    assert counts.tolist() == [3348, 301, 292]
