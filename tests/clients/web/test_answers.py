import base64
import io

import pytest
from PIL import Image

from clients.web.answers import Picture


def decoded(picture: Picture) -> Image.Image:
    kind, _, data = picture.data_url.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(
    ("size", "shown"), [((30, 20), (30, 20)), ((3200, 800), (1600, 400)), ((10, 3200), (5, 1600))]
)
def test_large_pictures_are_shown_smaller(size: tuple[int, int], shown: tuple[int, int]) -> None:
    original = Image.new("RGB", size, (200, 20, 20))
    picture = Picture.of("red", original)
    assert original.size == size
    assert decoded(picture).size == shown
    assert decoded(picture).getpixel((0, 0)) == (200, 20, 20)
