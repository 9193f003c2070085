"""The files of one version of a model, and the manifest that describes and seals them.

| file or folder | what it holds |
|---|---|
| `saved_model.pb`, `variables/` | the SavedModel |
| `assets.extra/tf_serving_warmup_requests` | requests that warm a server up |
| `model.onnx` | the `tensors` signature as an ONNX graph |
| `step.onnx` | one step of a loop that the host drives, where a task has one |
| `assets/` | vocabularies and the like, for both |
| `assets/samples/` | images to try the model on, where it takes images |
| `manifest.json` | what this is, and the digest of every other file |
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from protocol.contracts import SignatureSpec
from protocol.drift import Reference
from protocol.errors import ContractError, DataLossError

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = "manifest/1"
SAVED_MODEL_FILE = "saved_model.pb"
VARIABLES_FOLDER = "variables"
ASSETS_FOLDER = "assets"
SAMPLES_FOLDER = "samples"  # within the assets
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
ONNX_FILE = "model.onnx"
ONNX_STEP_FILE = "step.onnx"
TFLITE_FILE = "model.tflite"

_CHUNK_BYTES = 1 << 20
# What the manifest is called until it is complete.
_NEW_MANIFEST = f".{MANIFEST_FILE}.new"


@dataclass(frozen=True)
class ServingTuning:
    """How a server best runs the ONNX graphs of a version, as measured by `export.tuning`.

    Attributes:
        intra_op_threads: threads within one operation; 0 leaves the choice to ONNX Runtime.
        max_batch_size: rows beyond which joining more requests brings nothing.
        runs_inline: whether a run of one request is so short that an event loop does it itself;
            None where that depends on the request.
        measured: the figures that this follows from, for people.
    """

    intra_op_threads: int
    max_batch_size: int
    runs_inline: bool | None
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("intra_op_threads", 0), ("max_batch_size", 1)):
            value: Any = getattr(self, name)
            if type(value) is not int or value < least:
                raise ContractError(
                    f"tuning.{name} must be a whole number of at least {least}; was {value!r}"
                )
        inline: Any = self.runs_inline
        if inline is not None and type(inline) is not bool:
            raise ContractError(f"tuning.runs_inline must be true, false or null; was {inline!r}")
        measured: Any = self.measured
        if not isinstance(measured, Mapping):
            raise ContractError(f"tuning.measured must be an object; was {measured!r}")


@dataclass(frozen=True)
class Manifest:
    """What is in a version folder, and where it came from.

    Attributes:
        task: one of the tasks in `contracts.CONTRACTS`.
        model_name: name the model is served under.
        created: time of the export, ISO 8601 with its offset.
        config: the resolved configuration of the training run.
        data: digest of each data set used, by its name.
        metrics: results of the evaluation, by split.
        labels: names of the classes, by index.
        signatures: what the model can be called with.
        files: SHA-256 of every other file, by its path relative to the folder.
        packages: versions of the packages that made it.
        parity: how far each format is from the Keras model.
        pipeline: parameters of the host-side steps around the ONNX graph.
        tuning: how to run the ONNX graphs; None where nobody has measured it.
        reference: what requests and answers looked like when the version was accepted, see
            `protocol.drift`; None where nobody has measured it.
    """

    task: str
    model_name: str
    created: str
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    signatures: tuple[SignatureSpec, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    tuning: ServingTuning | None = None
    reference: Reference | None = None

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Reads the manifest of a version folder.

        Raises:
            DataLossError: it is missing or not a manifest; the message names the file.
        """
        file = folder / MANIFEST_FILE
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataLossError(f"manifest {file} cannot be read: {error}") from error
        if not isinstance(document, dict) or document.get("format") != MANIFEST_FORMAT:
            raise DataLossError(f"{file} is not of the format {MANIFEST_FORMAT}")
        try:
            return cls._from_document(document)
        except (KeyError, TypeError, ContractError) as error:
            raise DataLossError(f"{file} is not a manifest: {error!r}") from error

    @classmethod
    def _from_document(cls, document: Mapping[str, Any]) -> "Manifest":
        values = {name: value for name, value in document.items() if name != "format"}
        values["labels"] = tuple(document["labels"])
        values["signatures"] = tuple(
            SignatureSpec.from_json(signature) for signature in document["signatures"]
        )
        if "tuning" in document:
            values["tuning"] = ServingTuning(**document["tuning"])
        if "reference" in document:
            values["reference"] = Reference.from_json(document["reference"])
        return cls(**values)

    def write(self, folder: Path) -> "Manifest":
        """Seals a version folder: digests all its files and writes the manifest beside them.

        Args:
            folder: holds all files of the version; a former manifest is replaced.

        Returns:
            This manifest with the `files` of the folder.
        """
        sealed = replace(self, files=digest_files(folder))
        sealed.rewrite(folder)
        return sealed

    def rewrite(self, folder: Path) -> None:
        """Replaces the manifest of a sealed folder; the `files` stay those of this manifest.

        Readers find the former manifest or this one, never a part of it.
        """
        text = json.dumps(self._to_document(), indent=2, ensure_ascii=False) + "\n"
        with (folder / _NEW_MANIFEST).open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        (folder / _NEW_MANIFEST).replace(folder / MANIFEST_FILE)

    def _to_document(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["signatures"] = [signature.to_json() for signature in self.signatures]
        optional = {
            "tuning": asdict(self.tuning) if self.tuning is not None else None,
            "reference": self.reference.to_json() if self.reference is not None else None,
        }
        for name, document in optional.items():
            values[name] = document
            if document is None:
                del values[name]
        return {"format": MANIFEST_FORMAT, **values}


def onnx_files(folder: Path, file: str = ONNX_FILE) -> tuple[Path, ...]:
    """Returns the ONNX graphs that answer together: `file`, and the step where there is one."""
    step = folder / ONNX_STEP_FILE
    return (folder / file, step) if step.is_file() else (folder / file,)


def digest_files(folder: Path) -> dict[str, str]:
    """Computes the SHA-256 of every file in a folder but the manifest, by relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    digests = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    for name in (MANIFEST_FILE, _NEW_MANIFEST):
        digests.pop(name, None)
    return digests


def read_tuning(folder: Path) -> ServingTuning | None:
    """Reads how to run a version; None where it has no manifest, or nobody has measured it.

    Raises:
        DataLossError: the manifest is none.
    """
    return Manifest.read(folder).tuning if (folder / MANIFEST_FILE).is_file() else None


def verify_files(folder: Path) -> Manifest:
    """Compares every file of a version folder with the manifest's digest of it.

    Files that the manifest does not know are ignored: servers may add their own.

    Returns:
        The manifest, whose files are all intact.

    Raises:
        DataLossError: the manifest or a file is missing or damaged; the message names it.
    """
    manifest = Manifest.read(folder)
    for name, digest in manifest.files.items():
        file = folder / name
        try:
            found = _sha256(file)
        except OSError as error:
            raise DataLossError(f"{file} of the manifest cannot be read: {error}") from error
        if found != digest:
            raise DataLossError(
                f"{file} is damaged: its SHA-256 is {found}, the manifest says {digest}"
            )
    return manifest


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
