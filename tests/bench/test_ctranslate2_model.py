"""CTranslate2, which others wrote, makes the same of our Transformer's weights as we do."""

import pytest

pytest.importorskip("ctranslate2")
pytest.importorskip("tensorflow")

from protocol.subwords import END_ID
from tests.bench.ctranslate2_model import CTranslate2Transformer, convert, vocabulary
from tests.models.translation.untrained import make_model

TEXTS = (
    "the red house",
    "the yellow door and the brown house and the red table",
    "the grey dress and the blue flower",
)
MAX_LENGTH = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model("transformer", tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def reference(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ctranslate2")
    convert(model, folder)
    return CTranslate2Transformer(folder, vocabulary(model))


@pytest.mark.parametrize("beam_width", [1, 4])
def test_the_same_tokens_and_log_probabilities(model, reference, beam_width):
    sources = [model.tokenizer.encode(text).ids for text in TEXTS]
    expected = reference.translate(sources, beam_width, 0.0, MAX_LENGTH)
    found = model.translate(sources, beam_width, MAX_LENGTH)
    alpha = model.config.decoding.length_penalty
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.token_ids[0] == theirs.token_ids[0]
        length = min(MAX_LENGTH, len(ours.token_ids[0]) + 1)
        log_probability = ours.scores[0] * ((5 + length) / 6) ** alpha
        assert log_probability == pytest.approx(theirs.scores[0], rel=2e-4)


def test_tokens_are_known_by_text(model):
    tokens = vocabulary(model)
    assert len(set(tokens)) == model.tokenizer.vocabulary_size
    assert tokens[END_ID] == "</s>"
