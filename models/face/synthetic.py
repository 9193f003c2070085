"""Drawn faces: training, tests and the demo run without any file.

An identity is a set of proportions and colours; each of its pictures has its own expression,
pose, light and background, so that pictures of one person differ more in pixels than in shape.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from models.common.splits import ALL, DEV, TRAIN
from models.face.config import TrainingConfig
from models.face.data import Face, FaceSet, Source, is_held_out

SIDE = 64
# Drawn larger and reduced: smooth edges.
OVERSAMPLING = 2

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Person:
    """What stays the same in all pictures of an identity; lengths are shares of the side."""

    skin: Color
    hair: Color
    eyes: Color
    face_width: float
    face_height: float
    eye_distance: float
    eye_size: float
    nose_length: float
    mouth_width: float
    brow_height: float
    hair_line: float
    glasses: bool
    beard: bool


def make_person(random: np.random.Generator) -> Person:
    """Draws an identity."""
    tone = random.uniform(0.35, 1.0)
    return Person(
        skin=_color(np.array([235, 190, 160]) * tone + random.uniform(-12, 12, 3)),
        hair=_color(random.uniform(10, 190) * np.array([1.0, 0.8, 0.6])),
        eyes=_color(random.uniform(20, 160, 3)),
        face_width=random.uniform(0.27, 0.38),
        face_height=random.uniform(0.36, 0.45),
        eye_distance=random.uniform(0.11, 0.18),
        eye_size=random.uniform(0.025, 0.05),
        nose_length=random.uniform(0.08, 0.18),
        mouth_width=random.uniform(0.08, 0.18),
        brow_height=random.uniform(0.05, 0.1),
        hair_line=random.uniform(0.15, 0.38),
        glasses=bool(random.random() < 0.3),
        beard=bool(random.random() < 0.3),
    )


def _color(values: np.ndarray) -> Color:
    red, green, blue = (int(v) for v in np.clip(values, 0, 255))
    return red, green, blue


def draw_face(person: Person, random: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """Draws one picture of a person: uint8 [side, side, 3]."""
    large = side * OVERSAMPLING
    image = Image.new("RGB", (large, large), _color(random.uniform(0, 255, 3)))
    draw = ImageDraw.Draw(image)
    x, y = 0.5 + random.uniform(-0.03, 0.03), 0.52 + random.uniform(-0.03, 0.03)
    turn = random.uniform(-0.025, 0.025)  # features move against the outline of the head
    _draw_head(draw, person, large, x, y)
    _draw_features(draw, person, large, x + turn, y, mouth_open=random.uniform(0.0, 0.04))
    image = image.rotate(random.uniform(-6, 6), Image.Resampling.BILINEAR)
    image = image.resize((side, side), Image.Resampling.BILINEAR)
    left, right = random.uniform(0.75, 1.2, 2)
    light = np.linspace(left, right, side)[None, :, None]
    noisy = np.asarray(image) * light + random.normal(0, 4, (side, side, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _draw_head(draw: ImageDraw.ImageDraw, person: Person, side: int, x: float, y: float) -> None:
    width, height = person.face_width, person.face_height
    _ellipse(draw, side, x, y - 0.04, width + 0.04, height + 0.03, person.hair)
    _ellipse(draw, side, x, y, width, height, person.skin)
    if person.beard:
        box = [side * v for v in (x - width, y - height, x + width, y + height)]
        draw.chord(box, 20, 160, fill=person.hair)
    box = [side * v for v in (x - width, y - height, x + width, y + height)]
    angle = 90 * (0.3 + person.hair_line)
    draw.chord(box, 270 - angle, 270 + angle, fill=person.hair)


def _draw_features(
    draw: ImageDraw.ImageDraw,
    person: Person,
    side: int,
    x: float,
    y: float,
    mouth_open: float,
) -> None:
    dark = _color(np.array(person.skin) * 0.55)
    eye_y = y - 0.07
    for sign in (-1, 1):
        eye_x = x + sign * person.eye_distance
        _ellipse(draw, side, eye_x, eye_y, person.eye_size * 1.6, person.eye_size, (245, 245, 245))
        _ellipse(
            draw, side, eye_x, eye_y, person.eye_size * 0.8, person.eye_size * 0.8, person.eyes
        )
        brow = [
            (eye_x - 0.06, eye_y - person.brow_height),
            (eye_x + 0.06, eye_y - person.brow_height),
        ]
        draw.line([(side * a, side * b) for a, b in brow], fill=person.hair, width=side // 40 + 1)
        if person.glasses:
            box = [side * v for v in (eye_x - 0.1, eye_y - 0.08, eye_x + 0.1, eye_y + 0.08)]
            draw.ellipse(box, outline=(20, 20, 20), width=side // 50 + 1)
    nose = [
        (x, eye_y + 0.03),
        (x + 0.03, eye_y + person.nose_length),
        (x, eye_y + person.nose_length),
    ]
    draw.line([(side * a, side * b) for a, b in nose], fill=dark, width=side // 60 + 1)
    _ellipse(draw, side, x, y + 0.2, person.mouth_width, 0.015 + mouth_open, (150, 50, 60))


def _ellipse(
    draw: ImageDraw.ImageDraw,
    side: int,
    x: float,
    y: float,
    half_width: float,
    half_height: float,
    fill: Color,
) -> None:
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    draw.ellipse([side * v for v in box], fill=fill)


def make_faces(identities: int, images: int, seed: int, side: int = SIDE) -> tuple[Face, ...]:
    """Draws `images` pictures of each of `identities` persons, the same ones for the same seed."""
    random = np.random.default_rng(seed)
    faces = []
    for number in range(identities):
        name = f"person_{number:03d}"
        person = make_person(random)
        faces += [
            Face(name, draw_face(person, random, side), f"{name}/{name}_{picture:04d}")
            for picture in range(1, images + 1)
        ]
    return tuple(faces)


def make_source(
    config: TrainingConfig, identities: int = 60, images: int = 6, seed: int = 7
) -> Source:
    """Draws a source with train and dev splits, held out as in any other folder."""
    everyone = FaceSet(make_faces(identities, images, seed))
    splits = {
        ALL: everyone,
        TRAIN: everyone.of(lambda identity: not is_held_out(identity, config)),
        DEV: everyone.of(lambda identity: is_held_out(identity, config)),
    }
    return Source("synthetic", splits, ALL, f"seed-{seed}")
