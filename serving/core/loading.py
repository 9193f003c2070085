"""From a version folder to a servable that is ready for its first request."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from protocol import version_folder
from protocol.contracts import CONTRACTS, SERVING_DEFAULT, check_signature
from protocol.errors import ContractError, ServiceError, UnimplementedError
from protocol.examples import serialized_examples
from protocol.tensors import to_ndarray
from protocol.version_folder import Manifest
from protocol.warmup import read_warmup
from serving.core.batch_run import run_batch
from serving.core.examples import CLASSIFY, REGRESS, ExamplesMethod, examples_method
from serving.core.metrics import TfMetrics
from serving.core.servable import AspiredVersion, Servable, ServableId, Tensors
from serving.core.version_files import Fingerprint, check_complete, fingerprint

log = logging.getLogger(__name__)

# How often a version is loaded again because its files changed meanwhile.
_RELOADS = 3


class Runtime(Protocol):
    """Runs one kind of model file."""

    def load(self, folder: Path, manifest: Manifest | None) -> Servable:
        """Loads the version; blocking.

        Raises:
            ServiceError: The files can not be loaded.
        """
        ...


def resident_bytes() -> int:
    """The memory that this process occupies; 0 where the system does not tell (not Linux)."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class VersionLoader:
    """Verifies, loads, checks and warms up versions; see `Loader`.

    Args:
        choose_runtime: Picks the runtime of a version.
        metrics: Counts loads and warm-up records.
        tell_memory: Is told by how many bytes the process grew for a version.
        watch: Called with a version that has loaded, and its folder.
        check_folder: Called before loading; raises ServiceError for a folder that can not work.
        warm_up: Whether to replay the version's warm-up records.
        warm_up_iterations: How often each record is replayed.
    """

    def __init__(
        self,
        choose_runtime: Callable[[AspiredVersion], Runtime],
        metrics: TfMetrics,
        *,
        tell_memory: Callable[[ServableId, int], object] | None = None,
        watch: Callable[[ServableId, Path], object] | None = None,
        check_folder: Callable[[Path], object] = Path.is_dir,
        warm_up: bool = True,
        warm_up_iterations: int = 1,
    ) -> None:
        self._choose_runtime = choose_runtime
        self._metrics = metrics
        self._tell_memory = tell_memory
        self._watch = watch
        self._check_folder = check_folder
        self._warm_up = warm_up
        self._warm_up_iterations = max(warm_up_iterations, 1)

    def load(self, servable_id: ServableId, aspired: AspiredVersion) -> Servable:
        """See `Loader.load`."""
        path = str(aspired.folder)
        started, before = time.perf_counter(), resident_bytes()
        try:
            servable = self._load_unchanging(servable_id, aspired)
        except Exception:
            self._metrics.load_attempt_count.add(path, "fail")
            raise
        if self._watch is not None:
            self._watch(servable_id, aspired.folder)
        self._metrics.load_attempt_count.add(path, "success")
        self._metrics.load_latency.add(path, amount=(time.perf_counter() - started) * 1e6)
        if self._tell_memory is not None and before:
            self._tell_memory(servable_id, max(0, resident_bytes() - before))
        return servable

    def fingerprint(self, aspired: AspiredVersion) -> Fingerprint:
        """See `Loader.fingerprint`."""
        return fingerprint(aspired.folder)

    def _load_unchanging(self, servable_id: ServableId, aspired: AspiredVersion) -> Servable:
        """Loads, and loads again if files were still being written meanwhile."""
        for _ in range(_RELOADS):
            files = self.fingerprint(aspired)
            servable = self._load(servable_id, aspired)
            if self.fingerprint(aspired) == files:
                return servable
            log.info("%s changed while it was loaded, and is loaded again", aspired.folder)
            servable.close()
        return self._load(servable_id, aspired)

    def _load(self, servable_id: ServableId, aspired: AspiredVersion) -> Servable:
        check_complete(aspired.folder)
        self._check_folder(aspired.folder)
        manifest = read_manifest(aspired.folder)
        servable = self._choose_runtime(aspired).load(aspired.folder, manifest)
        try:
            if manifest is not None:
                check_contract(servable, manifest.task)
            if self._warm_up:
                self._replay(servable_id, servable, aspired.folder)
            servable.warmed_up()
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
        record: A `PredictionLog` message; an empty one is passed over. Model and version in the
            record are not looked at.

    Raises:
        ServiceError: The record fails, or is of a kind that can not be replayed.
    """
    kind = record.WhichOneof("log_type")
    if kind is None:
        return
    if kind not in _REPLAYS:
        raise UnimplementedError(
            f"Unsupported log_type for warmup: {kind}; supported: {', '.join(_REPLAYS)}"
        )
    _REPLAYS[kind](servable, getattr(record, kind).request)


def _replay_predict(servable: Servable, request: Any) -> None:
    inputs = {name: to_ndarray(tensor) for name, tensor in request.inputs.items()}
    _run(servable, _signature(servable, request.model_spec), inputs)


def _replay_classify(servable: Servable, request: Any) -> None:
    _replay_examples(servable, CLASSIFY, request.model_spec, request.input)


def _replay_regress(servable: Servable, request: Any) -> None:
    _replay_examples(servable, REGRESS, request.model_spec, request.input)


def _replay_multi_inference(servable: Servable, request: Any) -> None:
    for task in request.tasks:
        method = examples_method(task.method_name)
        _replay_examples(servable, method, task.model_spec, request.input)


_REPLAYS: Mapping[str, Callable[[Servable, Any], None]] = {
    "predict_log": _replay_predict,
    "classify_log": _replay_classify,
    "regress_log": _replay_regress,
    "multi_inference_log": _replay_multi_inference,
}


def _replay_examples(
    servable: Servable, method: ExamplesMethod, model_spec: Any, request_input: Any
) -> None:
    signature = _signature(servable, model_spec)
    examples = serialized_examples(request_input)
    inputs = method.read_inputs(servable.signatures[signature], examples)
    method.check_outputs(_run(servable, signature, inputs), len(examples))


def _signature(servable: Servable, model_spec: Any) -> str:
    name: str = model_spec.signature_name or SERVING_DEFAULT
    if name not in servable.signatures:
        raise ContractError(
            f'Serving signature key "{name}" not found; signatures: '
            f"{', '.join(sorted(servable.signatures))}"
        )
    return name


def _run(servable: Servable, signature: str, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
    [result] = run_batch(servable, signature, [servable.prepare(signature, inputs)])
    if isinstance(result, ServiceError):
        raise result
    return result
