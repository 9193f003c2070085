"""The translator for LiteRT: the encoder for one sentence, and one step for all hypotheses.

`protocol.beam_search` drives them as it drives the two ONNX graphs.
"""

import tensorflow as tf

from export.litert_modules import SignatureModule
from export.translation import memory_specs, state_specs, step_function
from models.translation.signature import TranslationModel

ENCODE, STEP = "encode", "step"


def encoder_module(model: TranslationModel) -> tf.Module:
    """`encode`: `token_ids` int32 [1, S] -> `memory_<name>` of `Translator.encode`.

    The sentence is padded to the longest that may come: LiteRT has no operator that inserts an
    axis into a tensor of unknown size, as the mask of the padding needs.
    """
    memory, longest = memory_specs(model), model.tokenizer.max_tokens

    def encode(token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        words = tf.shape(token_ids)[1]
        padded = tf.pad(token_ids, [[0, 0], [0, longest - words]])
        found = model.network.encode(tf.reshape(padded, [1, longest]))
        return {
            f"memory_{name}": first_words(found[name], spec.shape, words)
            for name, spec in memory.items()
        }

    ids = tf.TensorSpec([1, None], tf.int32, name="token_ids")
    return SignatureModule(ENCODE, encode, [ids], model.network)


def first_words(memory: tf.Tensor, shape: tf.TensorShape, words: tf.Tensor) -> tf.Tensor:
    """Takes the padding back.

    Args:
        memory: with the padded size on one axis, or without words at all.
        shape: None for that axis; the first axis counts rows.
        words: number of words, int32 [].
    """
    sizes = [words if axis and size is None else -1 for axis, size in enumerate(shape)]
    return tf.slice(memory, [0] * len(sizes), tf.stack(sizes))


def step_module(model: TranslationModel) -> tf.Module:
    """`step`: inputs and outputs of `export.translation.step_model`."""
    memory, state = memory_specs(model), state_specs(model)
    advance, inputs = step_function(model, memory, state)
    names = ("scores", "continuations", "attention", *(f"next_{name}" for name in state))

    def step(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, advance(*tensors), strict=True))

    specs = [tf.TensorSpec(s.shape, s.dtype, name=name) for name, s in inputs.items()]
    return SignatureModule(STEP, step, specs, model.network)
