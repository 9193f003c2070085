"""Pictures of attention: source tokens across, target tokens down, the darker the more.

Needs Pillow, which the rest of the clients does without: `pip install '.[vision]'`.
"""

import math
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from clients.drawing import require_pillow
from clients.report import shortened, shown_token
from clients.translation import AttentionResult

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    Font = FreeTypeFont | BitmapFont

# The font that comes with Pillow knows English letters only; these are looked for first.
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")
_NO_CHARACTER = "\U0010ffff"
_PLAIN = {"\N{OPEN BOX}": "_"}  # for a font without this one

_BLACK, _WHITE, _LINE = (0, 0, 0), (255, 255, 255), (226, 226, 226)
_SHADES = ((255, 255, 255), (66, 146, 198), (8, 48, 107))  # of the shares 0, half, and all
_MARGIN = 10
_SIDE = 1200  # a grid becomes no larger, unless its cells became unreadable
_SMALLEST_CELL, _LARGEST_CELL = 18, 44
_LONGEST_LABEL = 24  # letters
_LARGEST_FONT, _LEGEND_FONT = 18, 12
_LEGEND_SIZE = (120, 12)


def draw_attention(result: AttentionResult) -> "Image":
    """Draws where the model looked for each token of a translation.

    Args:
        result: What `TranslationClient.attention` returned for one text.

    Returns:
        RGB; columns are source tokens, rows target tokens. White is a share of 0, the darkest
        blue the largest share of all, which the legend tells.

    Raises:
        ImportError: Pillow is not installed.

    Source: the form of figure 3 in Bahdanau et al. 2015.
    """
    require_pillow()
    from PIL import Image

    cell = _cell_size(result.attention.shape)
    font = _font(min(cell * 5 // 9, _LARGEST_FONT))
    across = [_column_label(token, font) for token in result.source_tokens]
    down = [_label(token, font) for token in result.target_tokens]
    left = 2 * _MARGIN + max((label.width for label in down), default=0)
    top = 2 * _MARGIN + max((label.height for label in across), default=0)
    grid = Image.fromarray(_cells(result.attention, cell))
    legend = _legend(result.attention, _font(_LEGEND_FONT))
    width = max(left + grid.width, _MARGIN + legend.width) + _MARGIN
    picture = Image.new("RGB", (width, top + grid.height + legend.height + 2 * _MARGIN), _WHITE)
    picture.paste(grid, (left, top))
    picture.paste(legend, (_MARGIN, top + grid.height + _MARGIN))
    for column, label in enumerate(across):
        middle = left + column * cell + (cell - label.width) // 2
        picture.paste(_BLACK, (middle, top - _MARGIN // 2 - label.height), label)
    for row, label in enumerate(down):
        middle = top + row * cell + (cell - label.height) // 2
        picture.paste(_BLACK, (left - _MARGIN // 2 - label.width, middle), label)
    return picture


def _cell_size(shape: Sequence[int]) -> int:
    """Returns the side of a cell in pixels."""
    return min(max(_SIDE // max(*shape, 1), _SMALLEST_CELL), _LARGEST_CELL)


def _cells(attention: npt.NDArray[np.float32], cell: int) -> npt.NDArray[np.uint8]:
    """Returns the cells in their colours with lines around them, uint8 [H, W, 3]."""
    colours = _colours(attention / max(attention.max(initial=0), 1e-9))
    pixels = np.pad(
        colours.repeat(cell, axis=0).repeat(cell, axis=1), ((0, 1), (0, 1), (0, 0)), mode="constant"
    )
    pixels[::cell] = _LINE
    pixels[:, ::cell] = _LINE
    return pixels


def _colours(shares: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Returns colours [..., 3] for shares of the largest one, in 0..1."""
    places = np.linspace(0, 1, len(_SHADES))
    bands = [np.interp(shares, places, band) for band in zip(*_SHADES, strict=True)]
    return np.stack(bands, axis=-1).astype(np.uint8)


def _column_label(token: str, font: "Font") -> "Image":
    """Returns a token as a mask: single characters upright, others upwards."""
    label = _label(token, font)
    return label if len(token) == 1 else label.rotate(90, expand=True)


def _label(token: str, font: "Font") -> "Image":
    """Returns a token as a mask; all labels of a font have the same height."""
    return _text(shortened(shown_token(token), _LONGEST_LABEL), font)


def _legend(attention: npt.NDArray[np.float32], font: "Font") -> "Image":
    """Returns the scale of colours with the shares that its ends stand for."""
    from PIL import Image

    width, height = _LEGEND_SIZE
    shades = _colours(np.linspace(0, 1, width, dtype=np.float32))
    scale = Image.fromarray(np.tile(shades, (height, 1, 1)))
    ends = [_text("share 0", font), _text(f"{attention.max(initial=0):.2f}", font)]
    gap = _MARGIN // 2
    size = (sum(end.width for end in ends) + width + 2 * gap, max(height, ends[0].height))
    legend = Image.new("RGB", size, _WHITE)
    legend.paste(_BLACK, (0, 0), ends[0])
    legend.paste(scale, (ends[0].width + gap, (size[1] - height) // 2))
    legend.paste(_BLACK, (size[0] - ends[1].width, 0), ends[1])
    return legend


def _text(text: str, font: "Font") -> "Image":
    """Returns text as a mask, black where nothing is."""
    from PIL import Image, ImageDraw

    text = _drawable(text, font)
    size = (math.ceil(font.getlength(text)) + 1, math.ceil(font.getbbox("\N{OPEN BOX}Ag|")[3]) + 1)
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
    return mask


def _font(size: int) -> "Font":
    from PIL import ImageFont

    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size, layout_engine=ImageFont.Layout.BASIC)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _drawable(text: str, font: "Font") -> str:
    """Returns text without the characters that a font lacks: an accent goes, others become "?"."""
    missing = _glyph(_NO_CHARACTER, font)
    return "".join(
        character if _glyph(character, font) != missing else _plain(character) for character in text
    )


def _plain(character: str) -> str:
    base = unicodedata.normalize("NFKD", character)[0]
    return _PLAIN.get(character, base if base.isascii() and base.isprintable() else "?")


def _glyph(character: str, font: "Font") -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
