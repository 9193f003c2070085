from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef as OfficialSignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from protocol import contracts
from protocol.contracts import (
    CONTRACTS,
    DETECTION,
    SENTIMENT,
    SignatureSpec,
    TensorSpec,
    check_inputs,
    check_signature,
    signature_def,
    signature_spec,
)
from protocol.errors import ContractError
from protocol.messages import SignatureDef
from protocol.tensors import data_type

EVERY_SIGNATURE = [
    pytest.param(signature, id=f"{task}-{signature.name}")
    for task, contract in CONTRACTS.items()
    for signature in contract.signatures
]

TEXT = SENTIMENT.signature("serving_default")
TENSORS = SENTIMENT.signature("tensors")
DETECT = DETECTION.signature("serving_default")


def two_inputs(**second):
    return SignatureSpec(
        "sum",
        inputs=(TensorSpec("a", "float32", (None, 2)), TensorSpec("b", "int32", (), **second)),
        outputs=(TensorSpec("y", "float32", (None,)),),
    )


A = np.zeros((3, 2), np.float32)
B = np.int32(1)


def refusal(spec, **inputs):
    with pytest.raises(ContractError) as caught:
        check_inputs(spec, {name: np.asarray(array) for name, array in inputs.items()})
    return str(caught.value)


# The contracts themselves.


def test_the_five_tasks():
    assert list(CONTRACTS) == ["face", "detection", "segmentation", "translation", "sentiment"]
    for task, contract in CONTRACTS.items():
        assert contract.task == task
        assert contract.signatures[0].name == "serving_default"


@pytest.mark.parametrize("signature", EVERY_SIGNATURE)
def test_contract_is_well_formed(signature):
    for specs in (signature.inputs, signature.outputs):
        assert len({spec.name for spec in specs}) == len(specs)
        for spec in specs:
            data_type(spec.dtype)
    assert not any(spec.optional for spec in signature.outputs)
    assert not signature.inputs[0].optional


def test_looking_up_by_name():
    assert TEXT.input("text") == TensorSpec("text", "string", (None,))
    assert TEXT.output("probability") == TensorSpec("probability", "float32", (None, None))
    with pytest.raises(ContractError, match='"serving_default" has no input "txt"; inputs: text'):
        TEXT.input("txt")
    with pytest.raises(ContractError, match='no output "x"; outputs: label, probability, tokens'):
        TEXT.output("x")
    with pytest.raises(ContractError, match='no signature "x"; signatures: serving_default, ten'):
        SENTIMENT.signature("x")


def test_text_of_a_spec():
    assert str(DETECT.output("boxes_xyxy")) == "float32[?,?,4]"
    assert str(DETECT.input("iou_threshold")) == "float32[]"
    assert str(TensorSpec("x", "int64", (), unknown_rank=True)) == "int64[...]"


# Requests: names, in the words of TensorFlow Serving.


def test_inputs_that_fit():
    check_inputs(two_inputs(), {"a": A, "b": np.asarray(B)})
    check_inputs(two_inputs(optional=True), {"a": A})
    check_inputs(TEXT, {"text": np.array([b"good", b"bad"], dtype=object)})
    check_inputs(DETECT, {"image_bytes": np.array([b""], dtype=object)})


def test_too_few_inputs():
    assert refusal(two_inputs(), a=A) == (
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). "
        "Sent extra: {}. Missing but required: {b}."
    )


def test_no_inputs():
    assert refusal(TEXT) == (
        "input size does not match signature: 0!=1 len({}) != len({text}). "
        "Sent extra: {}. Missing but required: {text}."
    )


def test_too_many_inputs():
    assert refusal(TENSORS, token_ids=A, z=A, c=A) == (
        "input size does not match signature: 3!=1 len({c,token_ids,z}) != len({token_ids}). "
        "Sent extra: {c,z}. Missing but required: {}."
    )


def test_right_number_wrong_name():
    assert refusal(two_inputs(), a=A, c=B) == (
        "Signature input alias: b(feed name: sum_b:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {a,c}, or default input alias set: "
    )


def test_required_input_missing_beside_optional_ones():
    assert refusal(two_inputs(optional=True), b=B) == (
        "Signature input alias: a(feed name: sum_a:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {b}, or default input alias set: b"
    )


def test_unknown_extra_beside_optional_ones():
    assert refusal(two_inputs(optional=True), a=A, c=B) == (
        "Inputs contains invalid name. Used request inputs: a, request input: a,c"
    )


# Requests: dtypes and shapes.


@pytest.mark.parametrize(
    ("array", "came"),
    [
        (np.zeros((3,), np.float32), "float32[3]"),
        (np.zeros((3, 2, 1), np.float32), "float32[3,2,1]"),
        (np.zeros((3, 4), np.float32), "float32[3,4]"),
    ],
)
def test_wrong_rank_or_size(array, came):
    assert refusal(two_inputs(), a=array, b=B) == (
        f'input "a" of signature "sum": expected float32[?,2], got {came}'
    )


@pytest.mark.parametrize(
    ("array", "graph_name", "came"),
    [
        (np.zeros((3, 2), np.float64), "double", "float64[3,2]"),
        (np.zeros((3, 2), np.float16), "half", "float16[3,2]"),
        (np.zeros(3, np.int32), "int32", "int32[3]"),
        (np.array([b"x"], dtype=object), "string", "string[1]"),
    ],
)
def test_wrong_dtype(array, graph_name, came):
    assert refusal(two_inputs(), a=array, b=B) == (
        f"Expects arg[0] to be float but {graph_name} is provided; "
        f'input "a" of signature "sum": expected float32[?,2], got {came}'
    )


def test_wrong_dtype_of_an_optional_input():
    message = refusal(DETECT, image_bytes=np.array([b""], dtype=object), iou_threshold=0.5)
    assert message == (
        "Expects arg[1] to be float but double is provided; "
        'input "iou_threshold" of signature "serving_default": expected float32[], got float64[]'
    )


def test_unknown_rank_takes_every_shape():
    spec = SignatureSpec("f", (TensorSpec("x", "bool", (), unknown_rank=True),), ())
    check_inputs(spec, {"x": np.zeros((1, 2, 3), np.bool_)})
    assert "expected bool[...], got int64[]" in refusal(spec, x=np.int64(1))


def test_quantised_inputs_are_their_integers():
    spec = SignatureSpec("f", (TensorSpec("x", "qint8", (None,)),), ())
    check_inputs(spec, {"x": np.zeros(3, np.int8)})


# Models.


@pytest.mark.parametrize("signature", EVERY_SIGNATURE)
def test_contract_keeps_itself(signature):
    check_signature(signature, signature)


def test_order_and_further_outputs_do_not_matter():
    found = replace(TEXT, outputs=(TensorSpec("more", "int8", ()), *reversed(TEXT.outputs)))
    check_signature(TEXT, found)


def test_sizes_left_open_are_trusted():
    found = replace(DETECT, outputs=tuple(replace(o, shape=()) for o in DETECT.outputs))
    found = replace(found, outputs=tuple(replace(o, unknown_rank=True) for o in found.outputs))
    check_signature(DETECT, found)


def test_output_may_be_narrower_but_input_may_not():
    narrow = replace(
        TENSORS,
        inputs=(TensorSpec("token_ids", "int32", (None, 200)),),
        outputs=(TensorSpec("probability", "float32", (None, 2)),),
    )
    with pytest.raises(ContractError) as caught:
        check_signature(TENSORS, narrow)
    assert str(caught.value) == (
        'signature "tensors" does not keep its contract: '
        'input "token_ids" must be int32[?,?], found int32[?,200]'
    )


def test_every_difference_is_named():
    found = SignatureSpec(
        "serving_default",
        inputs=(TensorSpec("review", "string", (None,)), TensorSpec("x", "bool", (), True)),
        outputs=(
            TensorSpec("label", "int64", (None,)),
            TensorSpec("probability", "float32", (None,)),
            TensorSpec("tokens", "int32", (None,)),
        ),
    )
    with pytest.raises(ContractError) as caught:
        check_signature(TEXT, found)
    assert str(caught.value).split(": ", 1)[1].split("; ") == [
        'input "text" string[?] is missing (found: review, x)',
        'input "review" string[?] is not in the contract and not optional',
        'output "label" must be string[?], found int64[?]',
        'output "probability" must be float32[?,?], found float32[?]',
        'output "truncated" bool[?] is missing (found: label, probability, tokens)',
    ]


def test_optional_inputs_must_be_optional():
    with pytest.raises(ContractError, match='input "b" must be optional'):
        check_signature(two_inputs(optional=True), two_inputs())
    check_signature(two_inputs(), two_inputs(optional=True))


# SignatureDef and JSON.


def by_name(signature):
    return replace(
        signature,
        inputs=tuple(sorted(signature.inputs, key=lambda spec: spec.name)),
        outputs=tuple(sorted(signature.outputs, key=lambda spec: spec.name)),
    )


@pytest.mark.parametrize("signature", EVERY_SIGNATURE)
def test_signature_def_round_trip(signature):
    wire = signature_def(signature).SerializeToString()
    assert signature_spec(signature.name, SignatureDef.FromString(wire)) == by_name(signature)


def test_signature_def_is_what_tensorflow_reads():
    described = OfficialSignatureDef.FromString(signature_def(DETECT).SerializeToString())
    boxes = described.outputs["boxes_xyxy"]
    assert tf.dtypes.as_dtype(boxes.dtype) == tf.float32
    assert tf.TensorShape(boxes.tensor_shape).as_list() == [None, None, 4]
    assert described.inputs["image_bytes"].name == "serving_default_image_bytes:0"
    assert described.method_name == "tensorflow/serving/predict"
    assert sorted(described.defaults) == ["iou_threshold", "score_threshold"]
    assert tf.make_ndarray(described.defaults["iou_threshold"]) == np.float32(0)


def test_signature_of_a_tensorflow_model(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def double(x):
        any_shape = tf.io.parse_tensor(tf.io.serialize_tensor(x), tf.float32)
        return {"y": 2 * x, "any": any_shape}

    module.double = double
    tf.saved_model.save(module, str(tmp_path), signatures={"double": double})
    saved = SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    described = saved.meta_graphs[0].signature_def["double"]
    found = signature_spec("double", SignatureDef.FromString(described.SerializeToString()))
    assert found == SignatureSpec(
        "double",
        inputs=(TensorSpec("x", "float32", (None, 3)),),
        outputs=(
            TensorSpec("any", "float32", (), unknown_rank=True),
            TensorSpec("y", "float32", (None, 3)),
        ),
    )
    assert contracts.feed_name(found, "x") == described.inputs["x"].name


@pytest.mark.parametrize("signature", EVERY_SIGNATURE)
def test_json_round_trip(signature):
    assert SignatureSpec.from_json(signature.to_json()) == signature


def test_unknown_rank_round_trips():
    spec = SignatureSpec("f", (), (TensorSpec("y", "int8", (), unknown_rank=True),))
    assert SignatureSpec.from_json(spec.to_json()) == spec
    assert signature_spec("f", signature_def(spec)) == spec


def test_json_says_only_what_is_special():
    assert two_inputs(optional=True).to_json()["inputs"] == [
        {"name": "a", "dtype": "float32", "shape": [None, 2]},
        {"name": "b", "dtype": "int32", "shape": [], "optional": True},
    ]


@pytest.mark.parametrize("document", [{}, {"name": "x", "inputs": 1, "outputs": []}, {"name": "x"}])
def test_json_of_another_form(document):
    with pytest.raises(ContractError, match="not the description of a signature"):
        SignatureSpec.from_json(document)
