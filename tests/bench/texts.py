"""Texts for load tests: seeded, of two lengths, made of the words of film reviews."""

import random

SHORT_WORDS = (15, 25)
LONG_WORDS = (270, 330)

_OPENINGS = (
    "I watched this on a rainy evening and",
    "Nobody told me that",
    "After the first hour it is clear that",
    "To be fair,",
    "What stays with me is how",
    "For a film with such a budget,",
)
_LEXICON = """
    the a an and but or of to in with for about without this that it its they we you he she
    is was has had does did feels looks seems turns becomes keeps makes gives takes tells
    film story plot script scene ending dialogue camera music score cast lead actor actress
    director humour tension pace mood budget sequel thriller comedy drama romance documentary
    good great warm clever honest moving bright sharp funny gentle brave fresh lovely rare
    bad dull flat slow loud clumsy tired empty cheap predictable wooden endless awkward silly
    very quite rather never always almost hardly really simply mostly often twice again
    one two three ten minutes hours years characters moments ideas jokes surprises
    love hate enjoy forget remember expect deserve waste lose find believe laugh cry
"""
_WORDS = _LEXICON.split()


def short_texts(count: int, seed: int = 0) -> list[str]:
    """Returns texts of about 20 words."""
    return _texts(count, SHORT_WORDS, seed)


def long_texts(count: int, seed: int = 0) -> list[str]:
    """Returns texts of about 300 words."""
    return _texts(count, LONG_WORDS, seed)


def _texts(count: int, words: tuple[int, int], seed: int) -> list[str]:
    source = random.Random(seed)
    return [_text(source, source.randint(*words)) for _ in range(count)]


def _text(source: random.Random, words: int) -> str:
    written = source.choice(_OPENINGS).split()
    while len(written) < words:
        sentence = source.choices(_WORDS, k=min(source.randint(6, 16), words - len(written)))
        written += [*sentence[:-1], sentence[-1] + source.choice(".,!?.")]
    return " ".join(written)


TEXTS = {"short": short_texts(256), "long": long_texts(64)}
"""The texts of each kind that the load tests send."""
