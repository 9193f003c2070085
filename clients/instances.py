"""Single objects in a mask: touching ones are told apart by a watershed of the distance map.

1. Distance of each pixel of the class to the nearest other pixel.
2. Seeds: the maxima of that map which rise `depth` or more above the ridge to a higher one.
3. The seeds grow downhill, from high distances to low ones, until they fill the region.

NumPy only: everything runs over the pixels of the class, a few dozen rounds over all of them.

Source: Borgefors 1986, "Distance transformations in digital images" (the 3-4 distance); Vincent
1993, "Morphological grayscale reconstruction" (h-maxima); Vincent and Soille 1991, "Watersheds in
digital spaces".
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocol.errors import InvalidRequestError

# Steps to the neighbours across edges and corners in the 3-4 distance; three units are a pixel.
_EDGE, _CORNER = 3, 4
_UNITS_PER_PIXEL = _EDGE
_FAR = 1 << 28

Integers = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Instances:
    """The objects of one class in an image.

    Args:
        labels: Number of the object at each pixel, int32 [H, W]; 0 where there is none. The
            objects are numbered from 1 by their topmost, then leftmost pixel.
        count: How many there are.
    """

    labels: Integers
    count: int

    @property
    def areas(self) -> npt.NDArray[np.int64]:
        """Pixels of each object, int64 [count]."""
        return np.bincount(self.labels.ravel(), minlength=self.count + 1)[1:]

    @property
    def boxes_xyxy(self) -> npt.NDArray[np.float32]:
        """Box around each object in pixels, float32 [count, 4]: left, top, right, bottom edge."""
        boxes = np.zeros((self.count, 4), np.float32)
        rows, columns = np.nonzero(self.labels)
        number = self.labels[rows, columns] - 1
        for place, values, pick in ((0, columns, np.minimum), (1, rows, np.minimum)):
            boxes[:, place] = np.inf
            pick.at(boxes[:, place], number, values)
        for place, values in ((2, columns), (3, rows)):
            np.maximum.at(boxes[:, place], number, values + 1)
        return boxes


def label_instances(
    mask: npt.NDArray[np.uint8],
    class_id: int = 1,
    probability: npt.NDArray[np.float32] | None = None,
    *,
    depth: float = 0.75,
    min_area: int = 8,
) -> Instances:
    """Tells the objects of a class apart and counts them.

    Args:
        mask: Class of each pixel, uint8 [H, W].
        class_id: The class to look at.
        probability: How sure the model is of that class, float32 [H, W] in [0, 1]; where given,
            distances are multiplied by it, so that doubtful bridges split more easily.
        depth: How far, in pixels of distance, a maximum must rise above the ridge to a higher
            one to be an object of its own. Smaller splits more.
        min_area: Smaller objects are left out, pixels.

    Raises:
        InvalidRequestError: An argument has another shape or range than stated.
    """
    _check(mask, probability, depth)
    framed = np.pad(mask == class_id, 1)
    pixels = np.flatnonzero(framed)
    height, width = mask.shape
    if not pixels.size:
        return Instances(np.zeros((height, width), np.int32), 0)
    neighbours = _neighbours(framed, pixels)
    relief = _distances(framed, pixels, neighbours)
    if probability is not None:
        share = np.pad(probability, 1).ravel()[pixels]
        relief = np.maximum(1, np.rint(relief * share)).astype(np.int32)
    seeds = _seeds(relief, neighbours, max(1, round(depth * _UNITS_PER_PIXEL)))
    labels = _grow(_components(seeds, neighbours), relief, neighbours)
    framed_labels = np.zeros(framed.size, np.int32)
    framed_labels[pixels] = labels
    return _numbered(framed_labels.reshape(framed.shape)[1:-1, 1:-1], min_area)


def _check(
    mask: npt.NDArray[np.uint8], probability: npt.NDArray[np.float32] | None, depth: float
) -> None:
    if mask.ndim != 2:
        raise InvalidRequestError(f"mask must be [H, W], got shape {list(mask.shape)}")
    if probability is not None and probability.shape != mask.shape:
        raise InvalidRequestError(
            f"probability must have the mask's shape {list(mask.shape)}, "
            f"got {list(probability.shape)}"
        )
    if depth <= 0:
        raise InvalidRequestError(f"depth must be above 0 pixels, got {depth}")


def _neighbours(framed: npt.NDArray[np.bool_], pixels: npt.NDArray[np.intp]) -> Integers:
    """Returns the places in `pixels` of each one's eight neighbours, int32 [8, n].

    The first four lie across edges. A neighbour that is no pixel of the class has place n.
    """
    width = framed.shape[1]
    place = np.full(framed.size, len(pixels), np.int32)
    place[pixels] = np.arange(len(pixels), dtype=np.int32)
    edges = (-width, -1, 1, width)
    corners = (-width - 1, -width + 1, width - 1, width + 1)
    return np.stack([place[pixels + offset] for offset in (*edges, *corners)])


def _distances(
    framed: npt.NDArray[np.bool_], pixels: npt.NDArray[np.intp], neighbours: Integers
) -> Integers:
    """Returns the 3-4 distance of each pixel to the nearest one outside the class, int32 [n].

    What lies beyond the image counts as inside: objects cut by its border stay whole.
    """
    steps = np.array([_EDGE] * 4 + [_CORNER] * 4, np.int32)[:, np.newaxis]
    outside = neighbours == len(pixels)
    rows, columns = np.divmod(pixels, framed.shape[1])
    last_row, last_column = framed.shape[0] - 2, framed.shape[1] - 2
    at_border = np.stack(
        [
            rows == 1,
            columns == 1,
            columns == last_column,
            rows == last_row,
            (rows == 1) | (columns == 1),
            (rows == 1) | (columns == last_column),
            (rows == last_row) | (columns == 1),
            (rows == last_row) | (columns == last_column),
        ]
    )
    distance = np.where(outside & ~at_border, steps, _FAR).min(axis=0)
    while True:
        shorter = (np.append(distance, _FAR)[neighbours] + steps).min(axis=0)
        if not (shorter < distance).any():
            bounded: Integers = np.minimum(distance, 2 * framed.size).astype(np.int32)
            return bounded
        distance = np.minimum(distance, shorter)


def _seeds(relief: Integers, neighbours: Integers, depth: int) -> npt.NDArray[np.bool_]:
    """Marks the maxima that rise `depth` or more above the ridge to a higher one, bool [n].

    The relief lowered by `depth` is raised again as far as it can be without leaving the relief
    (reconstruction by dilation): only what is lower than `depth` is filled up. The plateaus of
    the result that have no higher neighbour are the seeds.
    """
    flattened = _raise_under(relief - depth, relief, neighbours)
    lowered = _raise_under(flattened - 1, flattened, neighbours)
    return lowered < flattened


def _raise_under(marker: Integers, ceiling: Integers, neighbours: Integers) -> Integers:
    """Spreads the marker's values to neighbours, but nowhere above the ceiling, int32 [n]."""
    while True:
        highest = np.append(marker, -_FAR)[neighbours].max(axis=0)
        raised = np.minimum(np.maximum(marker, highest), ceiling)
        if np.array_equal(raised, marker):
            return marker
        marker = raised


def _components(chosen: npt.NDArray[np.bool_], neighbours: Integers) -> Integers:
    """Numbers the connected groups of chosen pixels, int32 [n]; 0 for the others.

    Each pixel takes the smallest number around it, then the number of the pixel that this number
    stands for, so that numbers travel in leaps.
    """
    count = len(chosen)
    number = np.where(chosen, np.arange(count), count).astype(np.int32)
    while True:
        smallest = np.append(number, count)[neighbours].min(axis=0)
        smaller = np.where(chosen, np.minimum(number, smallest), count)
        smaller = np.append(smaller, count)[smaller]
        if np.array_equal(smaller, number):
            return np.where(chosen, number + 1, 0).astype(np.int32)
        number = smaller.astype(np.int32)


def _grow(labels: Integers, relief: Integers, neighbours: Integers) -> Integers:
    """Lets labels spread to unlabelled neighbours, from the highest level to the lowest.

    Where several reach a pixel in the same round, the one across an edge and, among those, the
    one with the highest number wins.
    """
    for level in np.unique(relief)[::-1]:
        waiting = np.flatnonzero((relief >= level) & (labels == 0))
        while waiting.size:
            around = np.append(labels, 0)[neighbours[:, waiting]]
            found = around[:4].max(axis=0)
            found = np.where(found > 0, found, around[4:].max(axis=0))
            if not found.any():
                break
            labels[waiting] = found
            waiting = waiting[found == 0]
    return labels


def _numbered(labels: Integers, min_area: int) -> Instances:
    """Drops small objects and numbers the others from 1, by their first pixel."""
    numbers, first, place = np.unique(labels.ravel(), return_index=True, return_inverse=True)
    areas = np.bincount(place.ravel())
    kept = (numbers > 0) & (areas >= min_area)
    order = np.argsort(np.where(kept, first, labels.size), kind="stable")
    table = np.zeros(len(numbers), np.int32)
    count = int(np.count_nonzero(kept))
    table[order[:count]] = np.arange(1, count + 1)
    return Instances(table[place.ravel()].reshape(labels.shape), count)
