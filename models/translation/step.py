"""What a decoder returns for one token of each hypothesis."""

from typing import Any, NamedTuple

Tensor = Any
State = dict[str, Tensor]


class Step(NamedTuple):
    """One step of B hypotheses for each of N sources.

    Attributes:
        logits: of the next token, float32 [N B, V].
        state: of each hypothesis after it, [N B, ...].
        weights: attention to the source's S tokens, float32 [N, B, S].
    """

    logits: Tensor
    state: State
    weights: Tensor
