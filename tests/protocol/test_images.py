import io
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageOps

from protocol import images
from protocol.errors import InvalidRequestError
from protocol.images import MAX_PIXELS, decode_image, encode_png, image_size
from tests.protocol.image_files import (
    BYTE_ORDERS,
    any_png,
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

GOOD_JPEGS, GOOD_PNGS = good_jpegs(), good_pngs()
MALFORMED_EXIF, WELL_FORMED_EXIF = malformed_exif(), well_formed_exif()
REFUSED = bad_files() | files_for_the_host_to_refuse()


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_thin_client_needs_no_pillow():
    code = "import sys, protocol.images; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


PLAIN_JPEGS = [
    name for name in GOOD_JPEGS if not name.startswith(("CMYK", "YCCK", "metadata that Pillow"))
]


@pytest.mark.parametrize("name", PLAIN_JPEGS)
def test_jpeg(name):
    image = decode_image(GOOD_JPEGS[name])
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pillow(GOOD_JPEGS[name]))


def test_metadata_of_a_jpeg_is_not_read():
    data = GOOD_JPEGS["metadata that Pillow stumbles over"]
    np.testing.assert_array_equal(decode_image(data), decode_image(jpeg()))


def test_cmyk_is_mixed_to_rgb():
    with_adobe, without = GOOD_JPEGS["CMYK of Adobe"], GOOD_JPEGS["CMYK"]
    stored = 255 - np.asarray(Image.open(io.BytesIO(with_adobe))).astype(int)
    cyan_magenta_yellow, black = stored[:, :, :3], stored[:, :, 3:]
    np.testing.assert_array_equal(decode_image(with_adobe), cyan_magenta_yellow * black // 255)
    mixed = (255 - cyan_magenta_yellow) * (255 - black) // 255
    np.testing.assert_array_equal(decode_image(without), mixed)
    assert np.abs(decode_image(with_adobe).astype(int) - pillow(with_adobe)).max() <= 1


@pytest.mark.parametrize("order", BYTE_ORDERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, order):
    data = with_segments(jpeg(), exif(orientation, order))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = decode_image(data)
    np.testing.assert_array_equal(image, np.asarray(upright))
    assert image_size(data) == image.shape[:2]


@pytest.mark.parametrize("name", MALFORMED_EXIF)
def test_malformed_exif_means_upright(name):
    data = with_segments(jpeg(), MALFORMED_EXIF[name])
    np.testing.assert_array_equal(decode_image(data), decode_image(jpeg()))


@pytest.mark.parametrize("name", WELL_FORMED_EXIF)
def test_odd_exif_is_understood(name):
    turned = with_segments(jpeg(), exif(6))
    data = with_segments(jpeg(), WELL_FORMED_EXIF[name])
    np.testing.assert_array_equal(decode_image(data), decode_image(turned))


@pytest.mark.parametrize("name", [name for name in GOOD_PNGS if "16 bits, colour type 0" in name])
def test_grey_png_of_16_bits_keeps_the_high_byte(name):
    samples = np.asarray(Image.open(io.BytesIO(GOOD_PNGS[name])))
    assert samples.max() > 255
    expected = np.stack([samples // 256] * 3, axis=2)
    np.testing.assert_array_equal(decode_image(GOOD_PNGS[name]), expected)


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_other_png_of_16_bits_keeps_the_high_byte(colour):
    rng = np.random.default_rng(16 + 16 * colour)  # the samples of `any_png`
    samples = rng.integers(0, 2**16, (11, 13, {2: 3, 4: 2, 6: 4}[colour])) // 256
    expected = samples[:, :, [0, 0, 0] if colour == 4 else [0, 1, 2]]
    for interlaced in (False, True):
        np.testing.assert_array_equal(decode_image(any_png(16, colour, interlaced)), expected)


PLAIN_PNGS = [
    name
    for name in GOOD_PNGS
    if not name.startswith("16 bits") and name not in ("text bomb", "profile bomb")
    if name not in ("index outside the palette", "damaged metadata", "animated")
]


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", PLAIN_PNGS)
def test_png(name):
    image = decode_image(GOOD_PNGS[name])
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pillow(GOOD_PNGS[name]))
    assert image_size(GOOD_PNGS[name]) == image.shape[:2]


@pytest.mark.parametrize(
    ("depth", "samples", "expected"),
    [(1, b"\x50", [0, 255, 0, 255]), (2, b"\x1b", [0, 85, 170, 255]), (4, b"\x0f", [0, 255])],
)
def test_few_bits_are_scaled_to_the_whole_range(depth, samples, expected):
    data = png(png_header(1, len(expected), depth), b"\0" + samples)
    np.testing.assert_array_equal(decode_image(data)[0, :, 1], expected)


def test_palette_is_expanded_and_black_outside():
    image = decode_image(GOOD_PNGS["index outside the palette"])
    np.testing.assert_array_equal(image, [[[1, 2, 3], [4, 5, 6], [0, 0, 0]]])


def test_alpha_is_ignored():
    rgba = np.dstack([photo(), np.zeros((19, 23), np.uint8)])
    np.testing.assert_array_equal(decode_image(encode(rgba, "PNG")), photo())


@pytest.mark.parametrize("name", ["damaged metadata", "text bomb", "profile bomb"])
def test_metadata_of_a_png_is_not_read(name):
    grey = np.frombuffer(b"abcd", np.uint8).reshape(2, 2, 1)
    np.testing.assert_array_equal(decode_image(GOOD_PNGS[name]), np.repeat(grey, 3, axis=2))


def test_animated_png_gives_its_still_image():
    np.testing.assert_array_equal(decode_image(GOOD_PNGS["animated"]), photo())


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    data, message = REFUSED[name]
    started = time.process_time()
    with pytest.raises(InvalidRequestError, match=message):
        decode_image(data)
    assert time.process_time() - started < 2


def test_too_large_is_refused_before_anything_is_decoded(monkeypatch):
    def open_never(*_):
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(images, "_open", open_never)
    data = jpeg()
    for height, width in ((8193, 8192), (65_501, 1), (65_535, 65_535)):
        size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        with pytest.raises(
            InvalidRequestError, match=rf"{height} x {width} .*at most {MAX_PIXELS}"
        ):
            decode_image(patched(data, frame(data) + 5, size))
        with pytest.raises(InvalidRequestError, match=f"declares {height} x {width}"):
            image_size(png(png_header(height, width), b""))


def test_largest_size_is_accepted():
    assert image_size(png(png_header(8192, 8192), b"")) == (8192, 8192)
    assert image_size(png(png_header(1, 65_500), b"")) == (1, 65_500)
    assert MAX_PIXELS == 8192 * 8192


def test_size_needs_only_the_header():
    data = with_segments(encode(photo(40, 70), "JPEG"), exif(8))
    assert image_size(data[: frame(data) + 19]) == (70, 40)
    assert image_size(encode(photo(40, 70), "PNG")[:33]) == (40, 70)


def test_any_exception_of_pillow_becomes_a_refusal(monkeypatch):
    for error in (MemoryError, RecursionError, SyntaxError, KeyError, Image.DecompressionBombError):

        def fail(*_, error=error):
            raise error("odd")

        monkeypatch.setattr(images, "_open", fail)
        with pytest.raises(
            InvalidRequestError, match=r"image of \d+ bytes is not a whole PNG .*odd"
        ):
            decode_image(png(png_header(2, 2), b"\0ab\0cd"))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_damaged_files_give_an_image_or_a_refusal(kind):
    rng = np.random.default_rng(0)
    files = list((GOOD_JPEGS if kind == "jpeg" else GOOD_PNGS).values())
    files = [data for data in files if len(data) < 4000]
    outcomes = []
    for _ in range(1500):
        try:
            image = decode_image(mutated(files[rng.integers(len(files))], rng))
            outcomes.append(image.shape[2] == 3)
        except InvalidRequestError:
            outcomes.append(False)
    assert 0 < sum(outcomes) < len(outcomes)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_png_round_trip(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    decoded = decode_image(encode_png(image))
    np.testing.assert_array_equal(decoded, image if len(shape) == 3 else np.dstack([image] * 3))


def test_grey_png_stays_grey():
    image = Image.open(io.BytesIO(encode_png(np.array([[0, 1], [2, 255]], np.uint8))))
    assert image.mode == "L"


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((0, 2), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_only_pixels_are_encoded(image):
    with pytest.raises(InvalidRequestError, match=r"image must be uint8 \[H, W\] or .*got"):
        encode_png(image)


@pytest.mark.data("det_bccd", "faces_lfw", "seg_dsb2018")
@pytest.mark.parametrize(
    "pattern", ["det_bccd/JPEGImages/*.jpg", "faces_lfw/images/*/*.jpg", "seg_dsb2018/images/*.png"]
)
def test_real_files(data_dir, pattern):
    for file in sorted(data_dir.glob(pattern))[::50][:8]:
        np.testing.assert_array_equal(decode_image(file.read_bytes()), pillow(file.read_bytes()))
