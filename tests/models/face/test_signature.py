import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from models.face.signature import load_model, make_module
from models.face.synthetic import draw_face, make_person
from protocol.contracts import FACE
from protocol.errors import InvalidRequestError
from protocol.images import encode_png

SIZES = ((64, 64), (80, 50), (33, 47), (1, 1))


def pictures():
    random = np.random.default_rng(0)
    person = make_person(random)
    return [draw_face(person, random, max(size))[: size[0], : size[1]] for size in SIZES]


def as_files(images):
    files = np.empty(len(images), dtype=object)
    files[:] = [encode_png(image) for image in images]
    return files


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mirrored"])
def model(request, face_model):
    network = dataclasses.replace(
        face_model.config.network, flip_average=request.param, central=0.8
    )
    return dataclasses.replace(
        face_model, config=dataclasses.replace(face_model.config, network=network)
    )


@pytest.fixture(scope="module")
def module(model):
    return make_module(model)


def test_embeddings_of_mixed_sizes(face_model):
    found = face_model.run_signature({"image_bytes": as_files(pictures())})["embedding"]
    assert (found.shape, found.dtype) == ((4, 128), np.float32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_every_row_carries_the_thresholds_of_the_version(model, module):
    files = as_files(pictures())
    row = [model.thresholds["far_1e-2"], model.thresholds["far_1e-3"]]
    for outputs in (
        model.run_signature({"image_bytes": files}),
        module.serving_default(list(files)),
    ):
        np.testing.assert_allclose(outputs["threshold"], [row] * 4, rtol=1e-6)


def test_the_graph_answers_bytes_as_keras_does(model, module):
    files = as_files(pictures())
    expected = model.run_signature({"image_bytes": files})["embedding"]
    found = module.serving_default(list(files))["embedding"]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_the_graph_answers_tensors_as_bytes(model, module):
    for image in pictures():
        expected = model.run_signature({"image_bytes": as_files([image])})["embedding"]
        found = module.tensors(np.stack([image, image]))["embedding"]
        np.testing.assert_allclose(found, np.repeat(expected, 2, axis=0), atol=2e-4)


def test_no_pictures_are_no_embeddings(model, module):
    nothing = np.empty(0, dtype=object)
    assert model.run_signature({"image_bytes": nothing})["embedding"].shape == (0, 128)
    assert module.serving_default(np.empty(0, "S1"))["embedding"].shape == (0, 128)


def test_a_mirror_image_has_the_same_embedding_where_both_are_averaged(model):
    image = pictures()[0][:61, :61]  # the middle 49 pixels have six on either side
    both = model.run_signature({"image_bytes": as_files([image, image[:, ::-1]])})["embedding"]
    alike = np.abs(both[0] - both[1]).max() < 1e-5
    assert alike == model.config.network.flip_average


def test_a_grey_jpeg_is_a_picture_too(face_model):
    stream = io.BytesIO()
    Image.fromarray(pictures()[0][..., 0]).save(stream, "jpeg")
    files = np.array([stream.getvalue()], dtype=object)
    assert face_model.run_signature({"image_bytes": files})["embedding"].shape == (1, 128)


def test_a_file_that_is_no_picture_is_refused_by_its_row(face_model):
    files = as_files(pictures())
    files[2] = b"no picture"
    with pytest.raises(InvalidRequestError, match=r"image_bytes\[2\]"):
        face_model.run_signature({"image_bytes": files})


def test_the_functions_have_the_names_of_the_contract(module):
    for signature in FACE.signatures:
        assert callable(getattr(module, signature.name))


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        load_model(tmp_path)
