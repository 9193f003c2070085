"""How far the requests and answers of a model have moved from what it was accepted on.

A *reference* holds the distribution of each feature (a score, a brightness, a rate of unknown
words) over examples that a version was accepted on. The latest observations are compared with it.
"""

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import ContractError

Values = npt.NDArray[Any]

BINS = 10
# Observations that are compared, and how few of them say too little.
WINDOW = 2000
FEWEST = 200

# Empty bins count as if they held this share: else one observation would be infinitely much.
_LEAST_SHARE = 1e-4
_CLASSES_OF_NO_NAME = ""


@dataclass(frozen=True)
class Distribution:
    """Shares of the values of a feature.

    Attributes:
        shares: of each bin, or of each class; they add up to 1.
        edges: between the bins, increasing, one less than there are shares; a value on an edge
            belongs below it. Empty for classes.
        classes: their names, where the values are names; those not listed are the last one's.
    """

    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        places = len(self.classes) or len(self.edges) + 1
        if len(self.shares) != places or not np.isclose(sum(self.shares), 1, atol=1e-3):
            raise ContractError(
                f"a distribution over {places} places needs as many shares that add up to 1, "
                f"got {list(self.shares)}"
            )
        if list(self.edges) != sorted(set(self.edges)):
            raise ContractError(f"edges must be increasing, got {list(self.edges)}")

    @classmethod
    def of(cls, values: Values) -> "Distribution":
        """Describes values, at least one: numbers by deciles, strings by class."""
        if values.dtype.kind in "OSU":
            names, counts = np.unique(values.astype(str), return_counts=True)
            shares = (*(counts / counts.sum()).tolist(), 0.0)
            return cls(shares=shares, classes=(*names.tolist(), _CLASSES_OF_NO_NAME))
        values = values.astype(float)
        inner = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:])
        # What is smaller or larger than anything seen has bins of its own; a value that fills
        # several deciles is an edge once.
        edges = tuple(np.unique([np.nextafter(values.min(), -np.inf), *inner]).tolist())
        counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
        return cls(shares=tuple((counts / counts.sum()).tolist()), edges=edges)

    def places(self, values: Values) -> npt.NDArray[np.intp]:
        """Returns the bin or class of each value."""
        if not self.classes:
            return np.searchsorted(self.edges, values)
        index = {name: place for place, name in enumerate(self.classes)}
        last = len(self.classes) - 1
        return np.array([index.get(name, last) for name in values.astype(str)], np.intp)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Distribution":
        """Reads what `to_json` wrote.

        Raises:
            ContractError: it is something else.
        """
        try:
            return cls(**{name: tuple(values) for name, values in document.items()})
        except TypeError as error:
            raise ContractError(f"not a distribution: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Writes it for a manifest; shares to five digits."""
        document: dict[str, Any] = {"shares": [round(share, 5) for share in self.shares]}
        if self.edges:
            document["edges"] = list(self.edges)
        if self.classes:
            document["classes"] = list(self.classes)
        return document


def stability_index(expected: Sequence[float], found: Sequence[float]) -> float:
    """Computes the population stability index of two lists of shares.

    Below 0.1 little has changed, above 0.2 much has, as the usual rule says. Two samples of one
    distribution differ by about (places - 1) (1 / n + 1 / m) by chance.

    Source: Siddiqi 2006, "Credit Risk Scorecards", chapter 8: the sum of (f - e) ln(f / e).

    Args:
        expected: of each bin.
        found: of each bin.
    """
    e = np.maximum(expected, _LEAST_SHARE)
    f = np.maximum(found, _LEAST_SHARE)
    return float(((f - e) * np.log(f / e)).sum())


@dataclass(frozen=True)
class Reference:
    """What a version was accepted on.

    Attributes:
        features: the distribution of each, by name.
        mean_embedding: of unit length, where answers are embeddings: the feature `embedding` is
            the cosine of an answer to it.
        examples: how many it was measured on.
    """

    features: Mapping[str, Distribution] = field(default_factory=dict)
    mean_embedding: tuple[float, ...] = ()
    examples: int = 0

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Reference":
        """Reads what `to_json` wrote.

        Raises:
            ContractError: it is something else.
        """
        try:
            features = document["features"].items()
            return cls(
                {name: Distribution.from_json(each) for name, each in features},
                tuple(document.get("mean_embedding", ())),
                int(document["examples"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ContractError(f"not a reference: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """Writes it for a manifest."""
        document: dict[str, Any] = {
            "examples": self.examples,
            "features": {name: each.to_json() for name, each in self.features.items()},
        }
        if self.mean_embedding:
            document["mean_embedding"] = [round(value, 4) for value in self.mean_embedding]
        return document


@dataclass(frozen=True)
class FeatureReport:
    """A feature as it was lately.

    Attributes:
        name: of the feature.
        observations: how many values are in the window.
        mean: of the values; None for classes, and without values.
        shares: share of each class, by its name; empty for numbers.
        index: `stability_index` against the reference; None for too few values.
    """

    name: str
    observations: int
    mean: float | None
    shares: Mapping[str, float]
    index: float | None


class DriftWatch:
    """Remembers the latest values of each feature; any thread may add some.

    Args:
        reference: what to compare with; other features are not remembered.
    """

    def __init__(self, reference: Reference) -> None:
        self._windows = {
            name: _Window(name, distribution) for name, distribution in reference.features.items()
        }
        self._lock = threading.Lock()

    def add(self, features: Mapping[str, Values]) -> None:
        """Adds values of some features."""
        with self._lock:
            for name, values in features.items():
                if name in self._windows and len(values):
                    self._windows[name].add(values)

    def report(self) -> list[FeatureReport]:
        """Describes each feature of the reference."""
        with self._lock:
            return [window.report() for window in self._windows.values()]


class _Window:
    """The latest values of one feature, by their place in the reference's distribution."""

    def __init__(self, name: str, distribution: Distribution) -> None:
        self._name = name
        self._distribution = distribution
        self._places: deque[int] = deque(maxlen=WINDOW)
        self._values: deque[float] = deque(maxlen=WINDOW)

    def add(self, values: Values) -> None:
        self._places.extend(self._distribution.places(values).tolist())
        if not self._distribution.classes:
            self._values.extend(np.asarray(values, float).tolist())

    def report(self) -> FeatureReport:
        classes, observations = self._distribution.classes, len(self._places)
        counts = np.bincount(
            np.fromiter(self._places, np.intp), minlength=len(self._distribution.shares)
        )
        shares = counts / max(1, observations)
        enough = observations >= FEWEST
        return FeatureReport(
            name=self._name,
            observations=observations,
            mean=float(np.mean(self._values)) if self._values else None,
            shares=dict(zip(classes, shares.tolist(), strict=bool(classes))),
            index=stability_index(self._distribution.shares, shares.tolist()) if enough else None,
        )


def distributions(batches: Iterable[Mapping[str, Values]]) -> dict[str, Distribution]:
    """Describes each feature over all batches; one without any value is left out."""
    values: dict[str, list[Values]] = {}
    for batch in batches:
        for name, each in batch.items():
            values.setdefault(name, []).append(each)
    joined = {name: np.concatenate(each) for name, each in values.items()}
    return {name: Distribution.of(each) for name, each in joined.items() if len(each)}
