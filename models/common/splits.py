"""The split convention of every model: which part of a data folder is used for what."""

import hashlib
from collections.abc import Collection

TRAIN, DEV, TEST, ALL = "train", "dev", "test", "all"
SPLIT_ALIASES = {"train": TRAIN, "dev": DEV, "val": DEV, "valid": DEV, "test": TEST, "all": ALL}


class DataError(ValueError):
    """A data folder or file cannot be used; the message names the file and the line."""


def choose_split(requested: str | None, available: Collection[str], where: str) -> str:
    """Picks the split to evaluate: the requested one, else test, else dev, else all.

    Args:
        requested: `train`, `dev` (or `val`), `test`, `all`, or None for the default.
        available: the splits that the folder holds.
        where: the folder's name, for the message.

    Raises:
        DataError: if the requested split is unknown or absent.
    """
    if requested is None:
        return next((name for name in (TEST, DEV) if name in available), ALL)
    name = SPLIT_ALIASES.get(requested)
    if name is None:
        raise DataError(f"unknown split {requested!r}; known: {', '.join(SPLIT_ALIASES)}")
    if name != ALL and name not in available:
        raise DataError(f"{where} has no {name} split; it has: {', '.join(sorted(available))}")
    return name


def in_held_out_part(key: str, fraction: float) -> bool:
    """Tells by a fixed hash whether the item named `key` belongs to the held-out part.

    The answer depends on the key alone, so it never moves when files are reordered or added.

    Args:
        key: what identifies the item, e.g. its normalised text or its file name.
        fraction: size of the held-out part, 0 to 1.
    """
    digest = hashlib.sha256(key.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
