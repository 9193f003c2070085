"""Warm-up files: TFRecords of PredictionLog, as TensorFlow Serving replays them after a load.

A record is its length (8 bytes), a checksum of the length (4), the data, and a checksum of the
data (4), all little-endian. The checksum is CRC-32C, rotated and shifted by a constant so that
checksums of data that holds checksums stay useful.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError

from protocol.errors import DataLossError, InvalidRequestError
from protocol.messages import PredictionLog

MAX_RECORDS = 1000

_CRC32C_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_MASK_DELTA = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_READ_BYTES = 1 << 20


def write_warmup(path: Path, requests: Iterable[Any]) -> None:
    """Writes Predict requests as a warm-up file, whose folder is made if need be.

    Args:
        path: where to; see `version_folder.WARMUP_FILE`.
        requests: PredictRequest messages, at most 1000.

    Raises:
        InvalidRequestError: there are more requests than servers replay.
    """
    records = [_prediction_log(request).SerializeToString() for request in requests]
    if len(records) > MAX_RECORDS:
        raise InvalidRequestError(_too_many(path, MAX_RECORDS))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(frame_record(record) for record in records))


def read_warmup(path: Path, limit: int = MAX_RECORDS) -> list[Any]:
    """Reads a warm-up file.

    Args:
        path: the file.
        limit: largest number of records that is accepted.

    Returns:
        The PredictionLog messages in their order.

    Raises:
        DataLossError: the file is not made of intact TFRecords.
        InvalidRequestError: a record is not a PredictionLog, or there are more than `limit`.
    """
    logs: list[Any] = []
    for record in read_records(path):
        if len(logs) == limit:
            raise InvalidRequestError(_too_many(path, limit))
        try:
            logs.append(PredictionLog.FromString(record))
        except DecodeError as error:
            raise InvalidRequestError(
                f"Failed to parse warmup record: {error} from {path}"
            ) from None
    return logs


def frame_record(data: bytes, checksum: Callable[[bytes], int] | None = None) -> bytes:
    """Frames one record for a TFRecord file.

    Args:
        data: the record.
        checksum: CRC-32C by a faster library than `crc32c`, for large records.
    """
    length = struct.pack("<Q", len(data))
    header = length + _FOOTER.pack(_masked(crc32c(length)))
    return header + data + _FOOTER.pack(_masked((checksum or crc32c)(data)))


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file.

    Raises:
        DataLossError: a record is cut off, or a checksum does not fit.
    """
    with path.open("rb") as stream:
        while header := stream.read(_HEADER.size):
            yield _read_record(stream, header, path)


def _read_record(stream: BinaryIO, header: bytes, path: Path) -> bytes:
    offset = stream.tell() - len(header)
    if len(header) < _HEADER.size:
        raise DataLossError(_not_records(path, offset, "truncated record"))
    length, length_checksum = _HEADER.unpack(header)
    if _masked(crc32c(header[:8])) != length_checksum:
        raise DataLossError(_not_records(path, offset, "corrupted record"))
    data = _read_exactly(stream, length)
    footer = stream.read(_FOOTER.size)
    if data is None or len(footer) < _FOOTER.size:
        raise DataLossError(_not_records(path, offset, "truncated record"))
    if _masked(crc32c(data)) != _FOOTER.unpack(footer)[0]:
        raise DataLossError(_not_records(path, offset, "corrupted record"))
    return data


def _read_exactly(stream: BinaryIO, length: int) -> bytes | None:
    """Reads piece by piece, so that a false length cannot ask for more than the file has."""
    data = bytearray()
    while len(data) < length:
        piece = stream.read(min(length - len(data), _READ_BYTES))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _not_records(path: Path, offset: int, fault: str) -> str:
    return f"{fault} at {offset} of {path}. Please verify your warmup data is in TFRecord format."


def _too_many(path: Path, limit: int) -> str:
    return f"Number of warmup records exceeds the maximum ({limit}) at {path}"


def _prediction_log(request: Any) -> Any:
    log = PredictionLog()
    log.predict_log.request.CopyFrom(request)
    return log


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC32C_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_CRC32C_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """Computes the CRC-32C (Castagnoli) of some bytes."""
    table, crc = _CRC32C_TABLE, 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
