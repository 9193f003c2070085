"""SavedModels: the signatures of a contract, and what `tf.saved_model.save` leaves out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from protocol.contracts import TaskContract
from protocol.version_folder import SAVED_MODEL_FILE


def write_signatures(module: Any, contract: TaskContract, folder: Path) -> None:
    """Writes `saved_model.pb` and its variables.

    Args:
        module: a `tf.Module` with a `tf.function` for each signature, of the signature's name.
        contract: names the signatures.
        folder: where to.
    """
    import tensorflow as tf

    signatures = {spec.name: getattr(module, spec.name) for spec in contract.signatures}
    with one_handle_for_each_variable():
        tf.saved_model.save(module, str(folder), signatures=signatures)


@contextmanager
def one_handle_for_each_variable() -> Iterator[None]:
    """Keeps Keras from adding a second variable for each of its own to the saved graph.

    The graph's restore operation would set the second one, and the signatures read the first.
    Loaded into Python that makes no difference, but TensorFlow Serving restores the graph.
    """
    from keras.src.backend.tensorflow.core import Variable

    def export(self: Any, object_map: Any, *arguments: Any, **options: Any) -> Any:
        resources = self.value._export_to_saved_model_graph(object_map, *arguments, **options)
        object_map[self] = object_map[self.value]
        return resources

    original = Variable._export_to_saved_model_graph
    Variable._export_to_saved_model_graph = export
    try:
        yield
    finally:
        Variable._export_to_saved_model_graph = original


def add_defaults(folder: Path, signature: str, defaults: Mapping[str, np.generic]) -> None:
    """Makes inputs of a signature optional: TensorFlow Serving fills in their defaults.

    Args:
        folder: of the SavedModel, which is changed.
        signature: name of the signature.
        defaults: input name -> the value it has where a request leaves it out.

    Raises:
        ValueError: if the signature has no such input.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = folder / SAVED_MODEL_FILE
    saved = SavedModel.FromString(file.read_bytes())
    definition = saved.meta_graphs[0].signature_def[signature]
    unknown = sorted(set(defaults) - set(definition.inputs))
    if unknown:
        raise ValueError(
            f"signature {signature!r} has no inputs {unknown}; inputs: {sorted(definition.inputs)}"
        )
    for name, value in defaults.items():
        definition.defaults[name].CopyFrom(tf.make_tensor_proto(value))
    file.write_bytes(saved.SerializeToString())
