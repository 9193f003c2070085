"""A made-up language pair: simple enough to learn in seconds, with words that change places.

"the red house and the blue door" -> "la maison rouge et la porte bleue"
"""

from random import Random

from models.common.splits import DEV, TRAIN
from models.translation.data import Pair, Source

NOUNS = {
    "house": "maison",
    "car": "voiture",
    "flower": "fleur",
    "table": "table",
    "door": "porte",
    "dress": "robe",
    "apple": "pomme",
    "lamp": "lampe",
}
COLOURS = {
    "red": "rouge",
    "blue": "bleue",
    "green": "verte",
    "white": "blanche",
    "black": "noire",
    "yellow": "jaune",
    "grey": "grise",
    "brown": "brune",
}
MOST_THINGS = 3


def make_pairs(count: int, seed: int) -> list[Pair]:
    """Makes `count` different pairs, the same for the same seed."""
    random = Random(seed)
    pairs: dict[str, Pair] = {}
    while len(pairs) < count:
        pair = _make_pair(random)
        pairs.setdefault(pair.source, pair)
    return list(pairs.values())


def _make_pair(random: Random) -> Pair:
    things = random.randint(1, MOST_THINGS)
    chosen = [(random.choice(list(NOUNS)), random.choice(list(COLOURS))) for _ in range(things)]
    english = " and ".join(f"the {colour} {noun}" for noun, colour in chosen)
    french = " et ".join(f"la {NOUNS[noun]} {COLOURS[colour]}" for noun, colour in chosen)
    return Pair(english, french)


def make_source(count: int = 1500, dev_count: int = 100, seed: int = 3) -> Source:
    """Makes a source with a train and a dev part that share no sentence."""
    pairs = make_pairs(count + dev_count, seed)
    splits = {TRAIN: pairs[:count], DEV: pairs[count:]}
    return Source("synthetic", splits, f"seed-{seed}-{count}-{dev_count}")
