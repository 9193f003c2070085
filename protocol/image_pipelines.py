"""Host-side steps of the vision models: image bytes are decoded here, sizes may be mixed.

A graph takes images of one size in a run. These pipelines take any, call the graph once for each
size, and put the answers back in order.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from protocol.contracts import PROBABILITY, SERVING_DEFAULT, SignatureSpec
from protocol.errors import InvalidRequestError
from protocol.images import MAX_PIXELS, decode_image, encode_png, image_size
from protocol.pipelines import (
    Array,
    Graph,
    Prepared,
    common_rows,
    merge_rows,
    parameter_names,
    parameter_values,
)
from protocol.tiling import Tiling, predict_tiled

IMAGE, IMAGE_BYTES = "image", "image_bytes"
MASK = "mask"

# Most pixels of images in one call of the graph: bounds the memory of its feature maps.
_PIXELS_PER_CALL = 4 * 2**20


class ImagePipeline:
    """Images, as bytes or tensors, -> what the graph says of each.

    Args:
        spec: the signature; its input is `image_bytes` string [N] or `image` uint8 [N,H,W,3],
            scalar inputs are parameters of the graph. Its outputs bear the names of the graph's.
    """

    def __init__(self, spec: SignatureSpec) -> None:
        self.spec = spec
        self.outputs: tuple[str, ...] = tuple(tensor.name for tensor in spec.outputs)
        self._parameters = parameter_names(spec)
        self.prepares_slowly = self._takes_bytes = any(
            tensor.name == IMAGE_BYTES for tensor in spec.inputs
        )

    def prepare(self, inputs: Mapping[str, Array]) -> Prepared:
        """Decodes; requests with the same parameters share a run.

        Raises:
            InvalidRequestError: an image cannot be decoded, has no pixels, or all together are
                too large; the message gives its row.
        """
        name = IMAGE_BYTES if self._takes_bytes else IMAGE
        rows = common_rows({name: inputs[name]})
        images = decode_images(inputs[name]) if self._takes_bytes else split_rows(inputs[name])
        tensors = {n: inputs[n] for n in self._parameters & inputs.keys()} | {IMAGE: images}
        batch_key = parameter_values(inputs, self._parameters)
        return Prepared(tensors, rows, batch_key, context=[image.shape[:2] for image in images])

    def merge(self, items: Sequence[Prepared]) -> dict[str, Array]:
        """Joins the images of all requests in one list, object [N]."""
        return merge_rows(items, self._parameters)

    def run(self, graph: Graph, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Calls the graph for the images of each size in turn."""
        images = tensors[IMAGE]
        parameters = {name: array for name, array in tensors.items() if name != IMAGE}
        if not len(images):
            return self._run_nothing(graph, parameters)
        rows_of: dict[str, list[Array]] = {
            name: [np.empty(0)] * len(images) for name in self.outputs
        }
        for rows in group_by_size(images):
            stacked = np.stack([images[row] for row in rows])
            answers = self.run_one_size(graph, {IMAGE: stacked, **parameters})
            for name, values in answers.items():
                for row, value in zip(rows, values, strict=True):
                    rows_of[name][row] = value
        return {name: stack_rows(values) for name, values in rows_of.items()}

    def run_one_size(self, graph: Graph, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Computes `outputs` for images of one size, uint8 [n, H, W, 3]."""
        return graph(tensors, self.outputs)

    def _run_nothing(self, graph: Graph, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """Answers a request without images: the shapes of one answer, none of its rows."""
        grey = np.full((1, 32, 32, 3), 128, np.uint8)
        answers = self.run_one_size(graph, {IMAGE: grey, **parameters})
        return {name: values[:0] for name, values in answers.items()}

    def finish(self, outputs: Mapping[str, Array], prepared: Prepared) -> dict[str, Array]:
        """Returns the outputs as they are."""
        return dict(outputs)


def decode_images(files: Array) -> Array:
    """Decodes image files, whose sizes may differ.

    Args:
        files: bytes of JPEG or PNG files, object [N].

    Returns:
        Object [N] of uint8 [H, W, 3].

    Raises:
        InvalidRequestError: one cannot be decoded, or they are too large together; the message
            gives the row.
    """
    images = np.empty(len(files), dtype=object)
    pixels = 0
    for row, data in enumerate(files):
        try:
            height, width = image_size(data)
            pixels += height * width
            if pixels > MAX_PIXELS:
                raise InvalidRequestError(
                    f"the images of one request may have {MAX_PIXELS} pixels together; up to "
                    f"this one they have {pixels}"
                )
            images[row] = decode_image(data)
        except InvalidRequestError as error:
            raise type(error)(f"image_bytes[{row}]: {error}") from error
    return images


def split_rows(stacked: Array) -> Array:
    """Turns images of one size, uint8 [N, H, W, 3], into a list of images, object [N].

    Raises:
        InvalidRequestError: they have no pixels.
    """
    if len(stacked) and not stacked[0].size:
        raise InvalidRequestError(
            f'input "image" holds images of {stacked.shape[1]}x{stacked.shape[2]} pixels; '
            "expected at least 1x1"
        )
    images = np.empty(len(stacked), dtype=object)
    for row, image in enumerate(stacked):
        images[row] = image
    return images


def group_by_size(images: Array) -> Iterator[list[int]]:
    """Yields the rows of images of equal size, few enough at a time for one call of a graph."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        by_size.setdefault(image.shape, []).append(row)
    for (height, width, _), rows in by_size.items():
        most = max(1, _PIXELS_PER_CALL // (height * width))
        for start in range(0, len(rows), most):
            yield rows[start : start + most]


def stack_rows(values: Sequence[Array]) -> Array:
    """Stacks rows of one shape; rows of several shapes become a list of arrays, object [N]."""
    if len({value.shape for value in map(np.asarray, values)}) == 1:
        return np.stack(values)
    rows = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        rows[row] = value
    return rows


class SegmentationPipeline(ImagePipeline):
    """Images -> masks of their own size.

    Args:
        spec: `serving_default`, `tensors` or `probability`.
        labels: names of the classes.
        tiling: how images are cut that are too large for one call; None never cuts.
    """

    def __init__(
        self, spec: SignatureSpec, labels: Sequence[str], tiling: Tiling | None = None
    ) -> None:
        super().__init__(spec)
        self.tiling = tiling
        wanted = {tensor.name for tensor in spec.outputs}
        self.outputs = (MASK, *sorted(wanted & {PROBABILITY}))
        self.labels = np.array([label.encode() for label in labels], dtype=object)

    def run_one_size(self, graph: Graph, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Computes masks of images of one size; large ones are cut, and the tiles blended."""
        images = tensors[IMAGE]
        if self.tiling is None or self.tiling.fits(*images.shape[1:3]):
            return graph(tensors, self.outputs)
        probability = predict_tiled(
            images,
            self.tiling,
            lambda tile: graph({IMAGE: tile}, (PROBABILITY,))[PROBABILITY],
        )
        mask = probability.argmax(axis=-1).astype(np.uint8)
        answers = {MASK: mask, PROBABILITY: probability}
        return {name: answers[name] for name in self.outputs}

    def finish(self, outputs: Mapping[str, Array], prepared: Prepared) -> dict[str, Array]:
        """Adds the names of the classes; packs the masks of `serving_default` as PNG files."""
        names = np.empty((prepared.rows, len(self.labels)), dtype=object)
        names[:] = self.labels
        if self.spec.name != SERVING_DEFAULT:
            return {**outputs, "class_names": names}
        files = np.empty(prepared.rows, dtype=object)
        for row, mask in enumerate(outputs[MASK]):
            files[row] = encode_png(mask)
        sizes = np.array(prepared.context, np.int32).reshape(-1, 2)
        return {
            "mask_png": files,
            "width": sizes[:, 1],
            "height": sizes[:, 0],
            "class_names": names,
        }
