"""A published sentiment model that costs next to nothing to run; it only knows "good"."""

from pathlib import Path

from onnx import TensorProto, helper

from protocol.contracts import SENTIMENT
from protocol.tokenizer import FIRST_WORD_ID, WordTokenizer
from protocol.version_folder import ASSETS_FOLDER, ONNX_FILE, Manifest

MAX_TOKENS = 400


def publish_tiny_model(repository: Path) -> None:
    """Writes version 1 of the model `sentiment` into a repository."""
    folder = repository / SENTIMENT.task / "1"
    folder.mkdir(parents=True)
    tokenizer = WordTokenizer(
        ["good", "bad"], [(r"[^a-z]+", " ")], max_tokens=MAX_TOKENS, head_tokens=MAX_TOKENS // 2
    )
    tokenizer.save(folder / ASSETS_FOLDER)
    (folder / ONNX_FILE).write_bytes(keyword_graph(FIRST_WORD_ID))
    Manifest(
        task=SENTIMENT.task,
        model_name=SENTIMENT.task,
        created="2025-01-01T00:00:00+00:00",
        labels=("negative", "positive"),
        signatures=SENTIMENT.signatures,
    ).write(folder)


def keyword_graph(word_id: int) -> bytes:
    """Builds token_ids int32 [N, T] -> probability float32 [N, 2].

    The second probability is 0.9 where `word_id` occurs among the ids, else 0.25.
    """
    constants = [
        helper.make_tensor("word", TensorProto.INT32, [], [word_id]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("step", TensorProto.FLOAT, [1, 2], [-0.65, 0.65]),
        helper.make_tensor("base", TensorProto.FLOAT, [1, 2], [0.75, 0.25]),
    ]
    nodes = [
        helper.make_node("Equal", ["token_ids", "word"], ["matches"]),
        helper.make_node("Cast", ["matches"], ["hits"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["hits", "axis"], ["hit"], keepdims=1),
        helper.make_node("Mul", ["hit", "step"], ["shift"]),
        helper.make_node("Add", ["base", "shift"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "keyword",
        [helper.make_tensor_value_info("token_ids", TensorProto.INT32, ["N", "T"])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    serialized: bytes = model.SerializeToString()
    return serialized
