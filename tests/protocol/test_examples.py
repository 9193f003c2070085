from typing import Any

from protocol import messages
from protocol.examples import serialized_examples


def example(**features: float) -> Any:
    made = messages.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def test_an_input_without_a_list_has_no_examples() -> None:
    assert serialized_examples(messages.Input()) == []


def test_a_list_keeps_its_order() -> None:
    listed = [example(x=1), example(x=2)]
    given = messages.Input(example_list=messages.ExampleList(examples=listed))
    assert serialized_examples(given) == [each.SerializeToString() for each in listed]


def test_the_context_goes_in_front_and_examples_win() -> None:
    given = messages.Input()
    given.example_list_with_context.context.CopyFrom(example(x=1, y=5))
    given.example_list_with_context.examples.append(example(x=2))
    [merged] = map(messages.Example.FromString, serialized_examples(given))
    values = {name: list(f.float_list.value) for name, f in merged.features.feature.items()}
    assert values == {"x": [2], "y": [5]}
