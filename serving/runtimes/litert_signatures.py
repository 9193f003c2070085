"""The signatures that TensorFlow Serving's tools write into a `model.tflite`."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from protocol.messages import SignatureDef

_METADATA = b"signature_defs_metadata"


def read_signature_defs(path: Path) -> dict[str, Any]:
    """Reads the SignatureDefs in a file's metadata: a map of serialized messages.

    Args:
        path: A `model.tflite`.

    Returns:
        SignatureDef messages by name; none if the file has no such metadata.

    Raises:
        google.protobuf.message.DecodeError: The metadata is damaged.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        packed = _metadata(schema.Model.GetRootAs(data))
    if not packed:
        return {}
    listed = flexbuffers.GetRoot(packed).AsMap
    names = [key.AsKey for key in listed.Keys]
    values = [listed.Values[index].AsStringBytes for index in range(len(names))]
    return {name: SignatureDef.FromString(value) for name, value in zip(names, values, strict=True)}


def _metadata(model: Any) -> bytes:
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == _METADATA:
            content: bytes = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            return content
    return b""
