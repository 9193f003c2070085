import numpy as np
import pytest
import tensorflow as tf

from models.common import graph_images
from models.common.graph_images import decode_each
from protocol.errors import InvalidRequestError
from protocol.images import decode_image
from tests.protocol.image_files import (
    BYTE_ORDERS,
    bad_files,
    encode,
    exif,
    files_for_the_host_to_refuse,
    frame,
    good_jpegs,
    good_pngs,
    jpeg,
    malformed_exif,
    mutated,
    patched,
    photo,
    png,
    png_header,
    well_formed_exif,
    with_segments,
)

GOOD = good_jpegs() | good_pngs()
BAD = bad_files()
EXIF = malformed_exif() | well_formed_exif()
HOST_REFUSES = files_for_the_host_to_refuse()

# What libjpeg fills in where scans of a progressive file are missing depends on its version.
LEVELS_WHERE_SCANS_ARE_MISSING = 16


@pytest.fixture(scope="module", name="in_graph")
def in_graph_fixture():
    return tf.function(
        graph_images.decode_image, input_signature=[tf.TensorSpec([], tf.string, name="data")]
    )


def assert_equal_to_host(in_graph, data):
    image = in_graph(data)
    assert image.dtype == tf.uint8
    np.testing.assert_array_equal(image.numpy(), decode_image(data))


@pytest.mark.parametrize("name", GOOD)
def test_equal_to_host(in_graph, name):
    assert_equal_to_host(in_graph, GOOD[name])


@pytest.mark.parametrize("order", BYTE_ORDERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(in_graph, orientation, order):
    data = with_segments(jpeg(), exif(orientation, order))
    assert_equal_to_host(in_graph, data)
    assert (in_graph(data).shape == in_graph(jpeg()).shape) == (orientation < 5)


@pytest.mark.parametrize("name", EXIF)
def test_odd_exif_means_the_same(in_graph, name):
    assert_equal_to_host(in_graph, with_segments(jpeg(), EXIF[name]))


def test_every_chroma_subsampling_is_equal_to_host(in_graph):
    data = encode(photo(35, 50), "JPEG", subsampling=0, quality=95)
    luma, *chroma = (frame(data) + 11 + 3 * component for component in range(3))
    for factors in (0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x42):
        changed = patched(data, luma, bytes([factors]))
        assert_equal_to_host(in_graph, changed)
    for place in chroma:  # luma coarser than chroma
        data = patched(data, place, b"\x22")
    assert_equal_to_host(in_graph, data)


def test_progressive_file_with_missing_scans_is_near_to_host(in_graph):
    data = encode(photo(67, 93), "JPEG", progressive=True, quality=40)
    scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    for place in scans[1:]:
        partial = data[:place] + b"\xff\xd9"
        difference = np.abs(in_graph(partial).numpy().astype(int) - decode_image(partial))
        assert difference.max() <= LEVELS_WHERE_SCANS_ARE_MISSING


@pytest.mark.parametrize("name", BAD)
def test_refused(in_graph, name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        in_graph(BAD[name][0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GIF", r"image must be a JPEG or PNG file; bytes that came:\] \[\d+\]"),
        ("nothing", r"image must be a JPEG or PNG file; bytes that came:\] \[0\]"),
        ("JPEG bomb", r"at most 67108864 pixels; height .* declared:\] \[65280\] \[65280\]"),
        ("PNG bomb", r"at most 67108864 pixels; height .* declared:\] \[8193\] \[8192\]"),
        ("PNG too wide", r"sides from 1 to 65500 and .* declared:\] \[1\] \[65501\]"),
        ("PNG of Apple", r"does not begin with an IHDR chunk"),
        ("lossless JPEG", r"baseline, extended or progressive JPEG file: no frame header at"),
        ("JPEG of fill bytes", r"no frame header at the byte where it must be:\] \[1025\]"),
        ("JPEG of 12 bits", r"must have 8 bits .* components found:\] \[12\] \[3\]"),
        ("JPEG of 2 components", r"must have 8 bits .* components found:\] \[8\] \[2\]"),
        ("JPEG with 65 scans", r"JPEG must have at most 64 scans; scans found:\] \[65\]"),
        ("JPEG half", "Invalid JPEG data"),
        ("PNG half", "Invalid PNG data"),
    ],
)
def test_refusal_says_why(in_graph, name, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        in_graph(BAD[name][0])


def test_works_without_a_graph():
    data = with_segments(jpeg(), exif(7))
    np.testing.assert_array_equal(graph_images.decode_image(data), decode_image(data))
    for name in ("GIF", "PNG bomb", "JPEG half"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            graph_images.decode_image(BAD[name][0])


@pytest.mark.parametrize(
    "name",
    [
        "more rows",
        "rows that are a bomb",
        "bytes after the rows",
        "image data in two places",
        "70,000 chunks",
        "1024 segments after the frame header",
    ],
)
def test_damage_outside_the_pixels_is_left_to_the_host(in_graph, name):
    assert in_graph(HOST_REFUSES[name][0]).shape[2] == 3


def test_damaged_files_give_the_same_image_or_the_host_refuses(in_graph):
    rng = np.random.default_rng(1)
    files = [data for data in GOOD.values() if len(data) < 4000 and b"\xff\xc2" not in data]
    images = 0
    for _ in range(400):
        data = mutated(files[rng.integers(len(files))], rng)
        try:
            expected = decode_image(data)
        except InvalidRequestError:
            expected = None
        try:
            image = in_graph(data).numpy()
        except tf.errors.InvalidArgumentError:
            assert expected is None, data
            continue
        if expected is not None:
            images += 1
            np.testing.assert_array_equal(image, expected, err_msg=str(data))
    assert images > 20


@pytest.fixture(scope="module", name="module")
def module_fixture():
    """Decodes batches to sizes, corner colours and names, of fixed and of no shape."""
    module = tf.Module()
    spec = {
        "size": tf.TensorSpec([2], tf.int32),
        "corner": tf.TensorSpec([3], tf.uint8),
        "png": tf.TensorSpec([], tf.string),
    }

    def look_at(image):
        return {
            "size": tf.shape(image)[:2],
            "corner": image[0, 0],
            "png": tf.io.encode_png(image),
        }

    module.look = tf.function(
        lambda image_bytes: decode_each(image_bytes, look_at, spec),
        input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")],
    )
    return module


def mixed_batch():
    return [
        jpeg(),
        with_segments(encode(photo(31, 12), "JPEG"), exif(6, "MM")),
        encode(photo(5, 40), "PNG"),
        png(png_header(1, 1), b"\0a"),
        GOOD["CMYK of Adobe"],
        GOOD["palette of 4 bits, interlaced"],
    ] * 3


def assert_looks_right(outputs, files):
    for file, size, corner, encoded in zip(
        files, outputs["size"], outputs["corner"], outputs["png"].numpy(), strict=True
    ):
        expected = decode_image(file)
        assert tuple(size) == expected.shape[:2]
        np.testing.assert_array_equal(corner, expected[0, 0])
        np.testing.assert_array_equal(decode_image(encoded), expected)


def test_a_batch_may_mix_sizes_and_formats(module):
    assert_looks_right(module.look(tf.constant(mixed_batch())), mixed_batch())


def test_an_empty_batch_gives_no_rows(module):
    outputs = module.look(tf.constant([], tf.string))
    assert {name: output.shape for name, output in outputs.items()} == {
        "size": (0, 2),
        "corner": (0, 3),
        "png": (0,),
    }


def test_one_bad_file_fails_its_batch(module):
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be a JPEG or PNG"):
        module.look(tf.constant([*mixed_batch(), b"no image"]))


def test_saved_model_round_trip(module, tmp_path):
    tf.saved_model.save(module, tmp_path, signatures={"serving_default": module.look})
    run = tf.saved_model.load(tmp_path).signatures["serving_default"]
    assert_looks_right(run(image_bytes=tf.constant(mixed_batch())), mixed_batch())
    assert run(image_bytes=tf.constant([], tf.string))["size"].shape == (0, 2)
    for name in ("GIF", "PNG bomb", "JPEG half"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(image_bytes=tf.constant([BAD[name][0]]))


@pytest.mark.data("det_bccd", "faces_lfw", "seg_dsb2018")
@pytest.mark.parametrize(
    "pattern", ["det_bccd/JPEGImages/*.jpg", "faces_lfw/images/*/*.jpg", "seg_dsb2018/images/*.png"]
)
def test_real_files_are_equal_to_host(in_graph, data_dir, pattern):
    for file in sorted(data_dir.glob(pattern))[::50][:8]:
        assert_equal_to_host(in_graph, file.read_bytes())
