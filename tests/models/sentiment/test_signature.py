import numpy as np
import pytest
import tensorflow as tf

from models.common.config import save_config
from models.common.run_folder import RunFolder
from models.common.weights import save_float16
from models.sentiment.signature import load_model, make_module

TEXTS = ["the acting was superb .", "this film was not moving .", "", "\u8fd9", "dull " * 500]


@pytest.fixture(scope="module")
def answer(tiny_model):
    return tiny_model.run_signature({"text": np.array([t.encode() for t in TEXTS], object)})


def test_answers_have_the_contract_types(answer):
    assert {name: (v.dtype.kind, v.shape) for name, v in answer.items()} == {
        "label": ("O", (5,)),
        "probability": ("f", (5, 2)),
        "tokens": ("i", (5,)),
        "truncated": ("b", (5,)),
    }
    assert answer["label"][0] == b"positive"
    assert answer["tokens"].tolist() == [5, 6, 0, 1, 500]
    assert answer["truncated"].tolist() == [False, False, False, False, True]
    np.testing.assert_allclose(answer["probability"].sum(axis=1), 1.0, atol=1e-6)


def test_module_answers_alike(tiny_model, answer):
    module = make_module(tiny_model)
    found = module.serving_default(tf.constant(TEXTS))
    for name, expected in answer.items():
        value = found[name].numpy()
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, expected, atol=1e-5)
        else:
            np.testing.assert_array_equal(value, expected)


def test_an_empty_batch_has_an_empty_answer(tiny_model):
    module = make_module(tiny_model)
    found = module.serving_default(tf.constant([], tf.string))
    assert found["probability"].shape == (0, 2)
    assert found["label"].shape == (0,)


def test_shipped_form_answers_alike(tiny_model, answer, tmp_path):
    shipped = RunFolder(tmp_path)
    save_float16(tiny_model.network.model, shipped.float16_weights)
    save_config(tiny_model.config, shipped.config)
    tiny_model.tokenizer.save(shipped.assets)
    shipped.write_details(dict(tiny_model.details))
    again = load_model(tmp_path).run_signature({"text": np.array(TEXTS, object)})
    np.testing.assert_array_equal(again["label"], answer["label"])
    np.testing.assert_allclose(again["probability"], answer["probability"], atol=0.02)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        load_model(tmp_path)
