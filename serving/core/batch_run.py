"""Answers a batch: requests joined into one run of the model, each getting its own rows back."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from protocol.errors import FailedPreconditionError, InternalError, ServiceError
from protocol.pipelines import Prepared
from serving.core.batch_shape import Part, fill_up, has_rows, pad_alike
from serving.core.batching import UNFINISHED, BatchingOptions, Result
from serving.core.servable import Servable, Tensors

log = logging.getLogger(__name__)

_AS_THEY_COME = BatchingOptions()


def run_batch(
    servable: Servable,
    signature: str,
    items: Sequence[Prepared],
    options: BatchingOptions = _AS_THEY_COME,
) -> list[Result]:
    """Runs requests together; if that fails, each alone, so that only the guilty ones fail.

    Args:
        servable: What to run.
        signature: The signature they ask for.
        items: Prepared requests, or parts of some, of one batch key.
        options: Tell how tensors are padded.

    Returns:
        For each request its outputs or its error, in order.
    """
    if len(items) > 1:
        try:
            return _run_merged(servable, signature, items, options)
        except Exception as error:
            log.info("A batch of %d requests failed and runs one by one: %s", len(items), error)
    return [_run_alone(servable, signature, item, options) for item in items]


def _run_merged(
    servable: Servable, signature: str, items: Sequence[Prepared], options: BatchingOptions
) -> list[Result]:
    alike = pad_alike(items) if options.pad_variable_length_inputs and items[0].is_plain else items
    tensors = servable.merge(signature, alike)
    rows = sum(item.rows for item in items)
    filled_up = options.filled_up(rows)
    if filled_up > rows > 0:
        tensors = fill_up(tensors, min(rows - items[-1].rows, rows - 1), filled_up - rows)
        outputs = servable.run(signature, tensors)
        _check_rows(outputs, filled_up)
    else:
        outputs = servable.run(signature, tensors)
        _check_rows(outputs, rows)
    results: list[Result] = []
    start = 0
    for item in items:
        mine = {name: values[start : start + item.rows] for name, values in outputs.items()}
        results.append(_finish(servable, signature, mine, item))
        start += item.rows
    return results


def _check_rows(outputs: Tensors, rows: int) -> None:
    for name, values in outputs.items():
        if values.ndim == 0:
            raise FailedPreconditionError(f"Batched output tensor has 0 dimensions: {name}")
        if len(values) != rows:
            raise FailedPreconditionError(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                f"dimension sizes of the input tensors: {name} has {len(values)}, expected {rows}"
            )


def _run_alone(
    servable: Servable, signature: str, item: Prepared, options: BatchingOptions
) -> Result:
    try:
        outputs = _outputs_alone(servable, signature, item, options)
        if isinstance(item, Part):
            _check_rows(outputs, item.rows)
    except Exception as error:
        return _as_service_error(error)
    return _finish(servable, signature, outputs, item)


def _outputs_alone(
    servable: Servable, signature: str, item: Prepared, options: BatchingOptions
) -> Tensors:
    """The raw outputs of one request, filled up where its tensors and outputs have rows."""
    tensors = servable.merge(signature, [item])
    filled_up = options.filled_up(item.rows)
    if filled_up > item.rows > 0 and has_rows(item):
        outputs = servable.run(signature, fill_up(tensors, 0, filled_up - item.rows))
        if all(values.ndim and len(values) == filled_up for values in outputs.values()):
            return {name: values[: item.rows] for name, values in outputs.items()}
    return servable.run(signature, tensors)


def _finish(servable: Servable, signature: str, outputs: Tensors, item: Prepared) -> Result:
    try:
        if not isinstance(item, Part):
            return servable.finish(signature, outputs, item)
        joined = item.whole.add(item.place, outputs)
        if joined is None:
            return UNFINISHED
        return servable.finish(signature, joined, item.whole.item)
    except Exception as error:
        return _as_service_error(error)


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    log.error("A run ended in an unexpected error", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")
