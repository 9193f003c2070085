"""Made-up reviews: training, tests and the demo run without any file.

Each text joins clauses of a film review; its class is the opinion of the last clause, and
negation turns a clause's opinion round, so that counting words alone does not solve the task.
"""

import numpy as np

from models.common.splits import DEV, TEST, TRAIN
from models.sentiment.data import Example, Source

_SUBJECTS = ("the plot", "the acting", "this film", "the music", "every scene", "the ending")
_PRAISE = ("wonderful", "moving", "funny", "brilliant", "charming", "superb")
_BLAME = ("dull", "awful", "clumsy", "tedious", "stupid", "weak")
_FILLERS = ("i watched it on a train .", "it runs for two hours .", "my brother came along .", "")


def make_examples(count: int, seed: int) -> list[Example]:
    """Generates `count` labelled reviews, the same ones for the same seed."""
    random = np.random.default_rng(seed)
    return [_review(random) for _ in range(count)]


def make_source(examples: int = 2_000, seed: int = 7) -> Source:
    """Generates a source with train, dev and test splits (70, 15 and 15 %)."""
    texts = make_examples(examples, seed)
    first, second = int(examples * 0.7), int(examples * 0.85)
    splits = {TRAIN: texts[:first], DEV: texts[first:second], TEST: texts[second:]}
    return Source("synthetic", splits, f"seed-{seed}")


def _review(random: np.random.Generator) -> Example:
    first, last = int(random.integers(2)), int(random.integers(2))
    opening = f"{_clause(random, first)} . {random.choice(_FILLERS)}"
    turn = "and" if first == last else "but"
    return Example(f"{opening} {turn} {_clause(random, last)} .", last)


def _clause(random: np.random.Generator, class_id: int) -> str:
    negated = random.random() < 0.25
    words = _PRAISE if (class_id == 1) != negated else _BLAME
    verb = "was not" if negated else "was"
    return f"{random.choice(_SUBJECTS)} {verb} {random.choice(words)}"
