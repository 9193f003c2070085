"""Export of the translator: SavedModel, two ONNX graphs, assets and warm-up requests.

A SavedModel searches inside its graph. ONNX Runtime would take longer for the same loop than for
its steps, so there are two graphs for it, `model.onnx` reads the sources, `step.onnx` continues
the hypotheses by one token, and the host searches: see `protocol.beam_search`.
"""

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from export.onnx_fusions import fuse_layers
from export.onnx_graph import (
    Dimensions,
    Part,
    count_operators,
    from_tensorflow,
    guard_empty_input,
    join,
    keep_rows,
)
from export.parity import Parity, ParityError, check_parity
from export.recurrent import reader_model
from export.saved_model import add_defaults, write_signatures
from models.common.backends import Backend
from models.common.run_folder import RunFolder
from models.translation import dates, synthetic
from models.translation.attention import AttentionTranslator
from models.translation.config import TINY
from models.translation.data import Item, references
from models.translation.decoding import continuations
from models.translation.evaluate import ask_all, load_pairs_to_evaluate
from models.translation.signature import TranslationModel, load_model, make_module
from models.translation.train import train
from models.translation.transformer import Transformer
from protocol.contracts import ATTENTION, SERVING_DEFAULT, TENSORS, TRANSLATION
from protocol.messages import ModelSpec, PredictRequest
from protocol.subwords import END_ID, FIRST_PIECE_ID
from protocol.tensors import to_tensor_proto
from protocol.version_folder import ONNX_STEP_FILE

logger = logging.getLogger(__name__)

SCORE_TOLERANCE = 1e-3
"""By how much an engine's score of the same sentence may differ from Keras'."""
OTHER_SENTENCES = 0.01
"""Share of the sentences that may differ: two hypotheses may score almost the same."""

DATES = "dates"
"""Name of the made-up dates among the data that a model learned from."""

SAMPLE_TEXTS = (
    "Where is the nearest railway station?",
    "I don\u2019t know what you mean by \u201clater\u201d \u2026",
    "the red house and the blue door",
    "Tuesday, April 8, 2014",
    "3 mai 1979",
    "",
    " \t ",
    "\u660e\u5929\u4f1a\u4e0b\u96e8\u3002",
    "He said that he would come, but nobody believed him any more. " * 20,
)

Specs = Mapping[str, Any]
"""A `tf.TensorSpec` for each name."""
Values = Mapping[str, tuple[int, Dimensions]]
INT32, FLOAT = TensorProto.INT32, TensorProto.FLOAT


def model_to_export(run: Path | None, scratch: Path) -> TranslationModel:
    """Loads a run, else trains a TINY model here on a made-up language pair.

    Args:
        run: run folder, or None.
        scratch: empty folder for the TINY run; must outlive the model.
    """
    if run is None:
        train(TINY, [synthetic.make_source()], RunFolder(scratch))
    return load_model(run or scratch)


def sample_examples() -> list[str]:
    """Returns odd texts, made-up sentences and dates, to compare engines on without data."""
    made = [*synthetic.make_pairs(100, seed=11), *dates.make_pairs(100, seed=11)]
    return [*SAMPLE_TEXTS, *(pair.source for pair in made)]


def load_examples(data: Path, model: TranslationModel) -> list[str]:
    """Reads the test or dev sentences of a data folder, each once."""
    return [item.source for item in load_references(data, model)]


def load_references(data: Path, model: TranslationModel) -> list[Item]:
    """Reads the test or dev sentences of a data folder with all their translations."""
    return references(load_pairs_to_evaluate(data, model.config, None).pairs)


def sample_references(model: TranslationModel) -> list[Item]:
    """Returns what the model was made for, dates or made-up sentences, with translations."""
    made = dates if DATES in model.details["data"] else synthetic
    return references(made.make_pairs(200, seed=11))


def write_saved_model(model: TranslationModel, folder: Path) -> None:
    """Writes `saved_model.pb` and its variables; how to search is optional in each signature."""
    write_signatures(make_module(model), TRANSLATION, folder)
    for spec in TRANSLATION.signatures:
        names = [tensor.name for tensor in spec.inputs if tensor.optional]
        add_defaults(folder, spec.name, {name: model.defaults[name] for name in names})


def write_onnx(model: TranslationModel, path: Path) -> None:
    """Writes the encoder to `path`, and the step of the decoder beside it.

    Raises:
        ValueError: if a recurrent layer did not stay one operator.
    """
    encoder, step = encoder_model(model), step_model(model)
    wanted = int(isinstance(model.network, AttentionTranslator))
    recurrent = sum(count_operators(encoder, operator) for operator in ("LSTM", "GRU"))
    loops = sum(count_operators(graph, "Loop") for graph in (encoder, step))
    if loops or recurrent != wanted:
        raise ValueError(
            f"expected {wanted} recurrent operator and no Loop in the ONNX graphs, "
            f"got {recurrent} and {loops}"
        )
    onnx.save(encoder, path)
    onnx.save(step, path.with_name(ONNX_STEP_FILE))


def encoder_model(model: TranslationModel) -> onnx.ModelProto:
    """Builds the encoder: `token_ids` int32 [N, S] -> `memory_<name>` of `Translator.encode`.

    It answers for no sources and for sources of no tokens too.
    """
    memory = memory_specs(model)
    read = recurrent_parts if isinstance(model.network, AttentionTranslator) else attentive_parts
    guarded = {"guarded_ids": "guarded_ids", "rows": "rows"}
    encoder = join(
        [
            Part("guard", guard_empty_input(), {"token_ids": "token_ids"}, guarded),
            *read(model.network, memory),
            *(
                Part(
                    f"keep_{name}",
                    keep_rows(*spec.shape[1:]),
                    {"all_rows": f"all_{name}", "rows": "rows"},
                    {"kept": f"memory_{name}"},
                )
                for name, spec in memory.items()
            ),
        ],
        {"token_ids": (INT32, ["N", "S"])},
        _values("memory_", memory, "N", "S"),
        name="encoder",
    )
    return fuse_layers(encoder)


def attentive_parts(network: Transformer, memory: Specs) -> list[Part]:
    """Returns the encoder that converts as a whole."""
    encode = from_tensorflow(
        lambda token_ids: _in_order(network.encode(token_ids), memory),
        {"token_ids": _spec("int32", None, None)},
        [f"memory_{name}" for name in memory],
    )
    return [Part("encode", encode, {"token_ids": "guarded_ids"}, _all_rows(memory))]


def recurrent_parts(network: AttentionTranslator, memory: Specs) -> list[Part]:
    """Returns embeddings, one recurrent operator, and what decoding needs of its states."""
    config = network.config
    token_ids = {"token_ids": _spec("int32", None, None)}
    states = {"states": _spec("float32", None, None, 2 * config.encoder_units)}
    embed = from_tensorflow(network.embed_source, token_ids, ["embeddings"])
    reader = reader_model(network.reader, config.embedding_units)
    derive = from_tensorflow(
        lambda token_ids, states: _in_order(network.memory(token_ids, states), memory),
        token_ids | states,
        [f"memory_{name}" for name in memory],
    )
    ids = {"token_ids": "guarded_ids"}
    vectors, contexts = {"embeddings": "embeddings"}, {"states": "states"}
    return [
        Part("embed", embed, ids, vectors),
        Part("reader", reader, ids | vectors, contexts),
        Part("memory", derive, ids | contexts, _all_rows(memory)),
    ]


def _all_rows(memory: Specs) -> dict[str, str]:
    return {f"memory_{name}": f"all_{name}" for name in memory}


def step_model(model: TranslationModel) -> onnx.ModelProto:
    """Builds one step of beam search, for R = N B hypotheses of N sources.

    Inputs: `token_ids` int32 [R], the token before, START at first; `parents` int32 [R], the row
    of the state that each hypothesis continues; `position` int32 []; `alive` float32 [N, B], the
    hypotheses' log-probabilities; `memory_<name>`, as the encoder gives them; `state_<name>`.

    Outputs: `scores` float32 [N, 2B], log-probabilities of the best continuations, best first;
    `continuations` int32 [N, 2B], hypothesis * V + token; `attention` float32 [N, B, S];
    `next_<name>`, the state after the step.
    """
    memory, state = memory_specs(model), state_specs(model)
    inputs: Values = {
        "token_ids": (INT32, ["R"]),
        "parents": (INT32, ["R"]),
        "position": (INT32, []),
        "alive": (FLOAT, ["N", "B"]),
        **_values("memory_", memory, "N", "S"),
        **_values("state_", state, "R", "T"),
    }
    outputs: Values = {
        "scores": (FLOAT, ["N", "C"]),
        "continuations": (INT32, ["N", "C"]),
        "attention": (FLOAT, ["N", "B", "S"]),
        **_values("next_", state, "R", "T_next"),
    }
    step = step_graph(model, memory, state, list(outputs))
    own = Part("step", step, {name: name for name in inputs}, {name: name for name in outputs})
    return fuse_layers(join([own], inputs, outputs, name="step"))


def step_graph(
    model: TranslationModel, memory: Specs, state: Specs, outputs: Sequence[str]
) -> onnx.ModelProto:
    """Converts the step; see `step_model` for its inputs and outputs."""
    advance, inputs = step_function(model, memory, state)
    return from_tensorflow(advance, inputs, outputs)


def step_function(
    model: TranslationModel, memory: Specs, state: Specs
) -> tuple[Callable[..., tuple[Any, ...]], Specs]:
    """Returns the step as a TensorFlow function, and its inputs in order; see `step_model`."""
    import tensorflow as tf

    network, size = model.network, model.tokenizer.vocabulary_size

    def advance(token_ids: Any, parents: Any, position: Any, alive: Any, *rest: Any) -> Any:
        read = dict(zip(memory, rest[: len(memory)], strict=True))
        past = dict(zip(state, rest[len(memory) :], strict=True))
        past = {name: tf.gather(value, parents) for name, value in past.items()}
        step = network.growing_step(read, past, token_ids, position)
        found = continuations(alive, step.logits, tf.shape(alive)[1])
        chosen = found.parents * size + found.tokens
        return found.scores, chosen, step.weights, *_in_order(step.state, state)

    inputs = {
        "token_ids": _spec("int32", None),
        "parents": _spec("int32", None),
        "position": _spec("int32"),
        "alive": _spec("float32", None, None),
        **{f"memory_{name}": spec for name, spec in memory.items()},
        **{f"state_{name}": spec for name, spec in state.items()},
    }
    return advance, inputs


def memory_specs(model: TranslationModel) -> Specs:
    """Returns what `Translator.encode` gives, in the order of the names."""
    import tensorflow as tf

    encode = tf.function(model.network.encode, input_signature=[_spec("int32", None, None)])
    memory = encode.get_concrete_function().structured_outputs
    return {name: _spec("float32", *memory[name].shape) for name in sorted(memory)}


def state_specs(model: TranslationModel) -> Specs:
    """Returns the state of hypotheses, in the order of the names; what grows has no fixed size."""
    return {
        name: _spec("float32", None, *(size or None for size in sizes))
        for name, sizes in first_state(model).items()
    }


def first_state(model: TranslationModel) -> dict[str, list[int]]:
    """Returns the sizes of the state before the first step, of one hypothesis."""
    state = model.network.start(1, 0)
    return {name: [int(size) for size in state[name].shape[1:]] for name in sorted(state)}


def _spec(dtype: str, *shape: int | None) -> Any:
    import tensorflow as tf

    return tf.TensorSpec(shape, dtype)


def _in_order(tensors: Mapping[str, Any], names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(tensors[name] for name in names)


def _values(prefix: str, specs: Specs, first: str, open_size: str) -> Values:
    """Describes float tensors for ONNX, with names for the sizes that are not fixed."""
    return {
        f"{prefix}{name}": (FLOAT, [first, *(size or open_size for size in spec.shape[1:])])
        for name, spec in specs.items()
    }


def write_assets(model: TranslationModel, folder: Path) -> None:
    """Copies the tokenizer, for engines that tokenise outside the graph."""
    shutil.copytree(model.run.assets, folder, dirs_exist_ok=True)


def warmup_requests(model_name: str) -> list[PredictRequest]:
    """Returns requests of all signatures, lengths and kinds of search: no caller is the first."""
    short, long = SAMPLE_TEXTS[0], SAMPLE_TEXTS[-1]
    batches = ([short], [long], SAMPLE_TEXTS, [short] * 8)
    texts = [np.array([text.encode() for text in batch], dtype=object) for batch in batches]
    greedy = {"beam_width": np.array(1, np.int32)}
    token_ids = np.array([[FIRST_PIECE_ID, END_ID]], np.int32)
    return [
        *(_request(model_name, SERVING_DEFAULT, text=text) for text in texts),
        *(_request(model_name, SERVING_DEFAULT, text=text, **greedy) for text in texts),
        _request(model_name, ATTENTION, text=texts[0]),
        _request(model_name, TENSORS, token_ids=token_ids),
    ]


def _request(model_name: str, signature: str, **inputs: np.ndarray) -> PredictRequest:
    spec = ModelSpec(name=model_name, signature_name=signature)
    request = PredictRequest(model_spec=spec)
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(to_tensor_proto(values))
    return request


class Answer(NamedTuple):
    """One text's translation, its score, and whether the text was cut."""

    translation: str
    score: float
    truncated: bool


def compare(
    model: TranslationModel, backend: Backend, engine: str, examples: Sequence[str]
) -> Parity:
    """Runs an engine and Keras on the same texts; logs every sentence that differs.

    Raises:
        ParityError: if more than `OTHER_SENTENCES` of the translations differ, the scores of
            equal ones by more than `SCORE_TOLERANCE`, or the engine cuts other texts.
    """
    expected, found = _answers(model, examples), _answers(backend, examples)
    rows = list(zip(examples, expected, found, strict=True))
    if any(a.truncated != b.truncated for _, a, b in rows):
        raise ParityError(f"{engine}: does not cut the same texts as Keras")
    if not np.isfinite([b.score for _, _, b in rows]).all():
        raise ParityError(f"{engine}: score holds NaN or infinity")
    different = [row for row in rows if row[1].translation != row[2].translation]
    for text, a, b in different:
        logger.warning("%s differs on %.200r: Keras %s, %s %s", engine, text, a, engine, b)
    logger.info("%s: %d of %d translations differ from Keras'", engine, len(different), len(rows))
    gaps = [abs(a.score - b.score) for _, a, b in rows if a.translation == b.translation]
    parity = Parity(
        engine=engine,
        examples=len(rows),
        max_difference=max(gaps, default=0.0),
        metric="equal_translations",
        metric_keras=1.0,
        metric_engine=1.0 - len(different) / max(1, len(rows)),
    )
    check_parity(parity, SCORE_TOLERANCE, OTHER_SENTENCES)
    return parity


def _answers(backend: Backend, texts: Sequence[str]) -> list[Answer]:
    rows = ask_all(backend, texts, Answer._fields)
    return [Answer(text.decode(), float(score), bool(cut)) for text, score, cut in rows]


def pipeline_parameters(model: TranslationModel) -> Mapping[str, Any]:
    """Returns what the host's search around the two graphs needs to know."""
    decoding = model.config.decoding
    return {
        "vocabulary_size": model.tokenizer.vocabulary_size,
        "beam_width": decoding.beam_width,
        "max_length": decoding.max_length,
        "length_penalty": decoding.length_penalty,
        "length_factor": decoding.length_factor,
        "length_allowance": decoding.length_allowance,
        "state": first_state(model),
    }
