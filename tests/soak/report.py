"""What the parts of the soak report."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One promise, and whether it was kept.

    Attributes:
        part: of the soak.
        what: was looked at.
        seen: figure.
        promised: bound.
        kept: whether the figure is within it.
    """

    part: str
    what: str
    seen: str
    promised: str
    kept: bool
