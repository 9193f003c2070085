"""The translator for LiteRT: the encoder for one sentence, and one step for all hypotheses.

`protocol.beam_search` drives them as it drives the two ONNX graphs.
"""

import tensorflow as tf

from export.litert_modules import SignatureModule
from export.translation import memory_specs, state_specs, step_function
from models.translation.signature import TranslationModel

ENCODE, STEP = "encode", "step"


def encoder_module(model: TranslationModel) -> tf.Module:
    """`encode`: `token_ids` int32 [1, S] -> `memory_<name>` of `Translator.encode`."""
    names = list(memory_specs(model))

    def encode(token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        found = model.network.encode(token_ids)
        return {f"memory_{name}": found[name] for name in names}

    ids = tf.TensorSpec([1, None], tf.int32, name="token_ids")
    return SignatureModule(ENCODE, encode, [ids], model.network)


def step_module(model: TranslationModel) -> tf.Module:
    """`step`: inputs and outputs of `export.translation.step_model`."""
    memory, state = memory_specs(model), state_specs(model)
    advance, inputs = step_function(model, memory, state)
    names = ("scores", "continuations", "attention", *(f"next_{name}" for name in state))

    def step(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, advance(*tensors), strict=True))

    specs = [tf.TensorSpec(s.shape, s.dtype, name=name) for name, s in inputs.items()]
    return SignatureModule(STEP, step, specs, model.network)
