"""From a version folder to a servable that is ready for its first request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from protocol import version_folder
from protocol.contracts import CONTRACTS, SERVING_DEFAULT, check_signature
from protocol.errors import ContractError, ServiceError, UnimplementedError
from protocol.tensors import to_ndarray
from protocol.version_folder import Manifest
from protocol.warmup import read_warmup
from serving.core.batching import run_batch
from serving.core.metrics import TfMetrics
from serving.core.servable import AspiredVersion, Servable, ServableId

log = logging.getLogger(__name__)

# Inference APIs whose warm-up records are left out: their methods are not served.
_SKIPPED_LOGS = ("classify_log", "regress_log", "multi_inference_log")


class Runtime(Protocol):
    """Runs one kind of model file."""

    def load(self, folder: Path, manifest: Manifest | None) -> Servable:
        """Loads the version; blocking.

        Raises:
            ServiceError: The files can not be loaded.
        """
        ...


class VersionLoader:
    """Verifies, loads, checks and warms up versions; see `Loader`.

    Args:
        choose_runtime: Picks the runtime of a version.
        metrics: Counts loads and warm-up records.
        check_folder: Called before loading; raises ServiceError for a folder that can not work.
        warm_up: Whether to replay the version's warm-up records.
        warm_up_iterations: How often each record is replayed.
    """

    def __init__(
        self,
        choose_runtime: Callable[[AspiredVersion], Runtime],
        metrics: TfMetrics,
        *,
        check_folder: Callable[[Path], object] = Path.is_dir,
        warm_up: bool = True,
        warm_up_iterations: int = 1,
    ) -> None:
        self._choose_runtime = choose_runtime
        self._metrics = metrics
        self._check_folder = check_folder
        self._warm_up = warm_up
        self._warm_up_iterations = max(warm_up_iterations, 1)

    def load(self, servable_id: ServableId, aspired: AspiredVersion) -> Servable:
        """See `Loader.load`."""
        path = str(aspired.folder)
        started = time.perf_counter()
        try:
            servable = self._load(servable_id, aspired)
        except Exception:
            self._metrics.load_attempt_count.add(path, "fail")
            raise
        self._metrics.load_attempt_count.add(path, "success")
        self._metrics.load_latency.add(path, amount=(time.perf_counter() - started) * 1e6)
        return servable

    def _load(self, servable_id: ServableId, aspired: AspiredVersion) -> Servable:
        self._check_folder(aspired.folder)
        manifest = read_manifest(aspired.folder)
        servable = self._choose_runtime(aspired).load(aspired.folder, manifest)
        try:
            if manifest is not None:
                check_contract(servable, manifest.task)
            if self._warm_up:
                self._replay(servable_id, servable, aspired.folder)
        except Exception:
            servable.close()
            raise
        return servable

    def _replay(self, servable_id: ServableId, servable: Servable, folder: Path) -> None:
        records = folder / version_folder.WARMUP_FILE
        if not records.is_file():
            return
        path = str(folder)
        logs = read_warmup(records)
        log.info("Warming up %s with %d records", servable_id, len(logs))
        started = time.perf_counter()
        for number, record in enumerate(logs, start=1):
            try:
                for _ in range(self._warm_up_iterations):
                    replay(servable, record)
            except ServiceError as error:
                self._metrics.warmup_records.add(path, error.status.name)
                raise type(error)(f"Warm-up record {number} of {records}: {error}") from error
            self._metrics.warmup_records.add(path, "OK")
        self._metrics.warmup_latency.observe((time.perf_counter() - started) * 1e6, path, "OK")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a version folder whose files are intact; None if it has no manifest.

    Raises:
        DataLossError: The manifest, or a file it names, is missing or damaged.
    """
    if not (folder / version_folder.MANIFEST_FILE).is_file():
        return None
    return version_folder.verify_files(folder)


def check_contract(servable: Servable, task: str) -> None:
    """Checks that a model of a known task offers the task's signatures.

    Raises:
        ContractError: A signature is missing or differs; the message names the differences.
    """
    contract = CONTRACTS.get(task)
    if contract is None:
        return
    for expected in contract.signatures:
        found = servable.signatures.get(expected.name)
        if found is None:
            raise ContractError(
                f"A {task} model must have the signature {expected.name!r}; found: "
                f"{', '.join(sorted(servable.signatures)) or 'none'}"
            )
        check_signature(expected, found)


def replay(servable: Servable, record: Any) -> None:
    """Answers one warm-up record and throws the answer away.

    Args:
        servable: The version to warm up.
        record: A `PredictionLog` message; an empty one and the logs of methods that are not
            served are passed over.

    Raises:
        ServiceError: The record fails, or is of a kind that can not be replayed.
    """
    kind = record.WhichOneof("log_type")
    if kind is None or kind in _SKIPPED_LOGS:
        return
    if kind != "predict_log":
        raise UnimplementedError(f"Unsupported log_type for warmup: {kind}")
    request = record.predict_log.request
    signature = request.model_spec.signature_name or SERVING_DEFAULT
    if signature not in servable.signatures:
        raise ContractError(f"Serving signature key {signature!r} not found")
    inputs = {name: to_ndarray(tensor) for name, tensor in request.inputs.items()}
    [result] = run_batch(servable, signature, [servable.prepare(signature, inputs)])
    if isinstance(result, ServiceError):
        raise result
