"""Inputs of Classify, Regress and MultiInference: lists of tf.Example."""

from typing import Any


def serialized_examples(request_input: Any) -> list[bytes]:
    """Reads the examples of an `Input` as TensorFlow Serving feeds them to a graph.

    The bytes of the shared context are put in front of each example's: a parser merges the two,
    and a feature of the example replaces the context's of the same name.

    Args:
        request_input: an Input message.

    Returns:
        Serialized tf.Example messages; none if the input is not set.
    """
    kind = request_input.WhichOneof("kind")
    if kind is None:
        return []
    listed = getattr(request_input, kind)
    context = b""
    if kind == "example_list_with_context":
        context = listed.context.SerializeToString()
    return [context + example.SerializeToString() for example in listed.examples]
