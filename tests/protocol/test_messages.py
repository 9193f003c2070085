"""Compares every message with the official one: tensorflow-serving-api, grpcio-health-checking."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow_serving.apis
import tensorflow_serving.config
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from protocol import messages

# The one field that we leave out: it would pull in the messages of whole graphs.
LEFT_OUT = {"tensorflow.serving.SessionRunResponse": {"metadata"}}

# Messages that the official packages lack, with their public names and numbers.
OURS_ALONE = {
    "tensorflow.serving.BatchingParameters": {
        "max_batch_size": 1,
        "batch_timeout_micros": 2,
        "max_enqueued_batches": 3,
        "num_batch_threads": 4,
        "thread_pool_name": 5,
        "allowed_batch_sizes": 6,
        "pad_variable_length_inputs": 7,
        "enable_large_batch_splitting": 8,
        "max_execution_batch_size": 9,
    },
    "tensorflow.serving.MonitoringConfig": {"prometheus_config": 1},
    "tensorflow.serving.PrometheusConfig": {"enable": 1, "path": 2},
    "tensorflow.serving.SSLConfig": {
        "server_key": 1,
        "server_cert": 2,
        "custom_ca": 3,
        "client_verify": 4,
    },
    "tensorflow.serving.SavedModelBundleSourceAdapterConfig": {"legacy_config": 1000},
    "tensorflow.serving.SessionBundleConfig": {
        "session_target": 1,
        "session_config": 2,
        "batching_parameters": 3,
        "saved_model_tags": 6,
    },
    "tensorflow.serving.SessionConfig": {
        "intra_op_parallelism_threads": 2,
        "inter_op_parallelism_threads": 5,
    },
    **{
        f"grpc.reflection.{version}.{name}": fields
        for version in ("v1", "v1alpha")
        for name, fields in {
            "ServerReflectionRequest": {
                "host": 1,
                "file_by_filename": 3,
                "file_containing_symbol": 4,
                "file_containing_extension": 5,
                "all_extension_numbers_of_type": 6,
                "list_services": 7,
            },
            "ExtensionRequest": {"containing_type": 1, "extension_number": 2},
            "ServerReflectionResponse": {
                "valid_host": 1,
                "original_request": 2,
                "file_descriptor_response": 4,
                "all_extension_numbers_response": 5,
                "list_services_response": 6,
                "error_response": 7,
            },
            "FileDescriptorResponse": {"file_descriptor_proto": 1},
            "ExtensionNumberResponse": {"base_type_name": 1, "extension_number": 2},
            "ListServiceResponse": {"service": 1},
            "ServiceResponse": {"name": 1},
            "ErrorResponse": {"error_code": 1, "error_message": 2},
        }.items()
    },
}


def _official_files() -> list[Any]:
    """The files of the official packages that we speak; importing them fills the default pool."""
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for package in (tensorflow_serving.apis, tensorflow_serving.config)
        for module in pkgutil.iter_modules(package.__path__)
        if module.name.endswith("_pb2")
    ]
    return [module.DESCRIPTOR for module in (*modules, health_pb2)]


def _our_files() -> list[Any]:
    files = descriptor_pb2.FileDescriptorSet.FromString(messages.DESCRIPTORS.read_bytes()).file
    return [messages.POOL.FindFileByName(file.name) for file in files]


def _messages(files: list[Any]) -> Iterator[Descriptor]:
    for file in files:
        for message in file.message_types_by_name.values():
            yield message
            yield from _nested(message)


def _nested(message: Descriptor) -> Iterator[Descriptor]:
    for inner in message.nested_types:
        yield inner
        yield from _nested(inner)


def _enums(files: list[Any]) -> Iterator[EnumDescriptor]:
    for file in files:
        yield from file.enum_types_by_name.values()
    for message in _messages(files):
        yield from message.enum_types


OFFICIAL = descriptor_pool.Default()
OFFICIAL_FILES = _official_files()
OUR_FILES = _our_files()
OUR_MESSAGES = {message.full_name: message for message in _messages(OUR_FILES)}
OUR_ENUMS = {enum.full_name: enum for enum in _enums(OUR_FILES)}
SHARED = sorted(OUR_MESSAGES.keys() - OURS_ALONE.keys())


def _field_facts(field: FieldDescriptor) -> dict[str, Any]:
    return {
        "name": field.name,
        "number": field.number,
        "json_name": field.json_name,
        "type": field.type,
        "message": field.message_type and field.message_type.full_name,
        "enum": field.enum_type and field.enum_type.full_name,
        "repeated": field.is_repeated,
        "required": field.is_required,
        "packed": field.is_packed,
        "presence": field.has_presence,
        "oneof": field.containing_oneof and field.containing_oneof.name,
        "default": field.default_value,
        "deprecated": field.GetOptions().deprecated,
    }


def _facts(message: Descriptor) -> dict[str, Any]:
    left_out = LEFT_OUT.get(message.full_name, set())
    return {
        "fields": {f.name: _field_facts(f) for f in message.fields if f.name not in left_out},
        "oneofs": {oneof.name: [f.name for f in oneof.fields] for oneof in message.oneofs},
        "nested": sorted(inner.name for inner in message.nested_types),
        "enums": sorted(enum.name for enum in message.enum_types),
        "map_entry": message.GetOptions().map_entry,
    }


@pytest.mark.parametrize("name", SHARED)
def test_message_equals_the_official_one(name):
    ours, official = _facts(OUR_MESSAGES[name]), _facts(OFFICIAL.FindMessageTypeByName(name))
    for facts in (ours, official):
        facts["oneofs"] = {oneof: sorted(fields) for oneof, fields in facts["oneofs"].items()}
    assert ours == official


@pytest.mark.parametrize("name", sorted(OUR_ENUMS))
def test_enum_equals_the_official_one(name):
    official = OFFICIAL.FindEnumTypeByName(name)
    assert {value.name: value.number for value in OUR_ENUMS[name].values} == {
        value.name: value.number for value in official.values
    }


def test_every_official_message_exists_here():
    official = {message.full_name for message in _messages(OFFICIAL_FILES)}
    assert official - OUR_MESSAGES.keys() == set()


def test_every_official_enum_exists_here():
    assert {enum.full_name for enum in _enums(OFFICIAL_FILES)} - OUR_ENUMS.keys() == set()


def test_what_is_left_out_exists_officially():
    for name, fields in LEFT_OUT.items():
        assert fields <= set(OFFICIAL.FindMessageTypeByName(name).fields_by_name)


@pytest.mark.parametrize("name", sorted(OURS_ALONE))
def test_message_without_official_package(name):
    with pytest.raises(KeyError):
        OFFICIAL.FindMessageTypeByName(name)
    assert {f.name: f.number for f in OUR_MESSAGES[name].fields} == OURS_ALONE[name]


def test_every_official_service_exists_here():
    for file in OFFICIAL_FILES:
        for official in file.services_by_name.values():
            ours = messages.POOL.FindServiceByName(official.full_name)
            assert _methods(ours) == _methods(official)


def _methods(service: Any) -> dict[str, Any]:
    return {
        method.name: (
            method.input_type.full_name,
            method.output_type.full_name,
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    }


SAMPLES: dict[int, Any] = {
    FieldDescriptor.TYPE_DOUBLE: -1.5,
    FieldDescriptor.TYPE_FLOAT: 0.25,
    FieldDescriptor.TYPE_INT64: -(1 << 62),
    FieldDescriptor.TYPE_UINT64: 1 << 63,
    FieldDescriptor.TYPE_INT32: -7,
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_STRING: "ä\n",
    FieldDescriptor.TYPE_BYTES: b"\x00\xff",
    FieldDescriptor.TYPE_UINT32: 1 << 31,
    FieldDescriptor.TYPE_ENUM: 1,
    FieldDescriptor.TYPE_SINT64: -3,
}


def _fill(message: Any, depth: int = 4) -> Any:
    """Sets every field; of a oneof, whatever was set last stays."""
    for field in message.DESCRIPTOR.fields:
        if field.name in LEFT_OUT.get(message.DESCRIPTOR.full_name, ()):
            continue
        value = getattr(message, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            _fill_map(value, field, depth)
        elif field.message_type:
            if depth:
                _fill(value.add() if field.is_repeated else value, depth - 1)
        elif field.is_repeated:
            value.extend([SAMPLES[field.type]] * 2)
        else:
            setattr(message, field.name, SAMPLES[field.type])
    return message


def _fill_map(value: Any, field: FieldDescriptor, depth: int) -> None:
    entry = field.message_type.fields_by_name
    key = SAMPLES[entry["key"].type]
    if entry["value"].message_type:
        _fill(value[key], max(depth - 1, 0))
    else:
        value[key] = SAMPLES[entry["value"].type]


@pytest.mark.parametrize("name", [name for name in SHARED if not name.endswith("Entry")])
def test_both_sides_read_each_other(name):
    ours = messages.message_class(name)
    official = GetMessageClass(OFFICIAL.FindMessageTypeByName(name))
    for writer, reader in ((ours, official), (official, ours)):
        written = _fill(writer())
        read = reader.FromString(written.SerializeToString(deterministic=True))
        assert str(read) == str(written)
        assert read.SerializeToString(deterministic=True) == written.SerializeToString(
            deterministic=True
        )


def test_what_is_left_out_survives_as_unknown():
    official = GetMessageClass(OFFICIAL.FindMessageTypeByName("tensorflow.serving.SessionRunLog"))
    written = official()
    written.response.metadata.session_metadata.name = "kept"
    passed_on = messages.SessionRunLog.FromString(written.SerializeToString())
    assert official.FromString(passed_on.SerializeToString()) == written


def test_unknown_message():
    with pytest.raises(KeyError):
        messages.message_class("tensorflow.serving.NoSuchMessage")


OURS_FIRST = "from protocol import messages; from tensorflow_serving.apis import predict_pb2"
OFFICIAL_FIRST = "from tensorflow_serving.apis import predict_pb2; from protocol import messages"
EXCHANGE = """
import tensorflow as tf
ours = messages.PredictRequest(output_filter=["y"])
ours.inputs["x"].CopyFrom(messages.TensorProto(dtype=1, float_val=[1.5]))
theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
assert tf.make_ndarray(theirs.inputs["x"]) == 1.5
assert messages.PredictRequest.FromString(theirs.SerializeToString()) == ours
"""


def test_lives_beside_tensorflow_whoever_comes_first(repository):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"{imports}\n{EXCHANGE}"],
            cwd=repository,
            stderr=subprocess.PIPE,
            text=True,
        )
        for imports in (OURS_FIRST, OFFICIAL_FIRST)
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr


def test_the_package_needs_no_tensorflow(repository):
    modules = sorted(path.stem for path in (repository / "protocol").glob("*.py"))
    program = (
        f"import importlib, sys\n"
        f"for name in {modules}: importlib.import_module(f'protocol.{{name}}')\n"
        f"heavy = ['tensorflow', 'keras', 'onnxruntime', 'onnx']\n"
        f"print([name for name in heavy if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.check_output(command, cwd=repository, text=True, timeout=60) == "[]\n"
