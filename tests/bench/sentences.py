"""Everyday sentences for load tests of translators: seeded, each of the wanted number of tokens."""

import random
from collections.abc import Sequence

from protocol.subwords import SubwordTokenizer

_PEOPLE = """
    I|we|you|they|my brother|her mother|the old man|the children|our neighbour|the teacher
    the two girls|a friend of mine|the doctor|the driver|his wife|everybody in the village
"""
_DEEDS = """
    will visit|cannot find|wanted to see|forgot|did not like|bought|sold|talked about
    asked for|must clean|used to love|will soon leave|remembered|looked for|wrote about
"""
_THINGS = """
    the house|a new car|the small garden|this book|the train to Paris|her birthday
    the red umbrella|an expensive watch|the kitchen|the long letter|the museum|my bicycle
    the answer to that question|some fresh bread|the last lesson
"""
_TIMES = """
    yesterday|this morning|before dinner|on Sunday|when it was raining|every summer|last week
    after work|in the evening|without saying a word|as soon as possible|for the first time
"""
_PARTS = tuple(
    tuple(part.strip() for line in parts.split("\n") for part in line.split("|") if part.strip())
    for parts in (_PEOPLE, _DEEDS, _THINGS, _TIMES)
)
_LINKS = (", and ", ", but ", ", because ", " while ")
_ATTEMPTS = 100_000


def sentences(tokenizer: SubwordTokenizer, tokens: int, count: int, seed: int = 0) -> list[str]:
    """Returns sentences that a tokenizer reads as exactly `tokens` ids, END included.

    Raises:
        ValueError: it reads too few of the sentences tried so.
    """
    source = random.Random(seed)
    found: dict[str, None] = {}
    for _ in range(_ATTEMPTS):
        text = _sentence(source, tokenizer, tokens)
        if len(tokenizer.encode(text).ids) == tokens:
            found[text] = None
        if len(found) == count:
            return list(found)
    raise ValueError(f"expected {count} sentences of {tokens} tokens, found {len(found)}")


def _sentence(source: random.Random, tokenizer: SubwordTokenizer, tokens: int) -> str:
    """Adds clauses as long as they fit; what is tried last may be too long."""
    text = longer = _clause(source)
    while len(tokenizer.encode(longer).ids) < tokens:
        text, longer = longer, longer + source.choice(_LINKS) + _clause(source)
    return text[0].upper() + text[1:] + "."


def _clause(source: random.Random) -> str:
    words: Sequence[str] = [source.choice(part) for part in _PARTS]
    return " ".join(words if source.random() < 0.5 else words[:-1])
