import struct

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog as OfficialPredictionLog

from protocol import warmup
from protocol.errors import DataLossError, InvalidRequestError
from protocol.messages import ModelSpec, PredictionLog, PredictRequest
from protocol.tensors import to_tensor_proto
from protocol.warmup import read_records, read_warmup, write_warmup


def request(text):
    made = PredictRequest(model_spec=ModelSpec(name="sentiment"))
    made.inputs["text"].CopyFrom(to_tensor_proto([text]))
    return made


REQUESTS = [request("good"), request("bad" * 1000), request("")]


def test_write_and_read(tmp_path):
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    write_warmup(path, REQUESTS)
    assert [log.predict_log.request for log in read_warmup(path)] == REQUESTS


def test_tensorflow_reads_what_we_write(tmp_path):
    path = tmp_path / "warmup"
    write_warmup(path, REQUESTS)
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    for record, expected in zip(records, REQUESTS, strict=True):
        log = OfficialPredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        assert log.predict_log.request.inputs["text"].string_val == list(
            expected.inputs["text"].string_val
        )


@settings(deadline=None)
@given(records=st.lists(st.binary(max_size=300), max_size=4))
def test_we_read_what_tensorflow_writes(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "file"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    assert list(read_records(path)) == records
    assert path.read_bytes() == b"".join(map(warmup.frame_record, records))


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),  # the check value of the CRC's definition
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_crc32c(data, checksum):
    assert warmup.crc32c(data) == checksum


def test_other_logs_are_read_too(tmp_path):
    log = PredictionLog()
    log.classify_log.request.model_spec.name = "x"
    path = tmp_path / "warmup"
    path.write_bytes(warmup.frame_record(log.SerializeToString()))
    assert read_warmup(path) == [log]


def test_empty_file(tmp_path):
    write_warmup(tmp_path / "warmup", [])
    assert read_warmup(tmp_path / "warmup") == []


def test_too_many_records(tmp_path):
    path = tmp_path / "warmup"
    write_warmup(path, REQUESTS)
    assert len(read_warmup(path, limit=3)) == 3
    with pytest.raises(InvalidRequestError, match=r"exceeds the maximum \(2\) at .*warmup"):
        read_warmup(path, limit=2)


def test_too_many_requests(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"exceeds the maximum \(1000\)"):
        write_warmup(tmp_path / "warmup", [PredictRequest()] * 1001)
    assert not (tmp_path / "warmup").exists()


def test_record_of_another_kind(tmp_path):
    path = tmp_path / "warmup"
    path.write_bytes(warmup.frame_record(b"\xff\xff\xff"))
    with pytest.raises(InvalidRequestError, match=r"Failed to parse warmup record: .*warmup"):
        read_warmup(path)


FRAMED = warmup.frame_record(PredictionLog().SerializeToString() + b"\x0a\x00")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"this is just a text", "corrupted record at 0"),
        (FRAMED[:-1], "truncated record at 0"),
        (FRAMED[:13], "truncated record at 0"),
        (FRAMED[:-1] + b"\x00", "corrupted record at 0"),
        (FRAMED + b"\x00" * 16, f"corrupted record at {len(FRAMED)}"),
    ],
)
def test_not_made_of_records(tmp_path, content, fault):
    path = tmp_path / "warmup"
    path.write_bytes(content)
    with pytest.raises(DataLossError, match=fault) as caught:
        read_warmup(path)
    assert str(caught.value).endswith("Please verify your warmup data is in TFRecord format.")
    with pytest.raises(tf.errors.DataLossError):
        list(tf.data.TFRecordDataset(str(path)))


@pytest.mark.parametrize("complete", [b"", FRAMED])
def test_rest_of_a_header(tmp_path, complete):
    """TensorFlow takes this for the end of the file; to us it is a copy that did not finish."""
    path = tmp_path / "warmup"
    path.write_bytes(complete + b"short")
    with pytest.raises(DataLossError, match=f"truncated record at {len(complete)}"):
        read_warmup(path)


def test_false_length_allocates_nothing(tmp_path):
    length = struct.pack("<Q", 1 << 60)
    header = length + struct.pack("<I", warmup._masked(warmup.crc32c(length)))
    path = tmp_path / "warmup"
    path.write_bytes(header + b"data")
    with pytest.raises(DataLossError, match="truncated record at 0"):
        read_warmup(path)
