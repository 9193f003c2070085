import pickle

import grpc
import pytest

from protocol import errors
from protocol.errors import ServiceError, error_from_status

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, ServiceError) and value is not ServiceError
]


@pytest.mark.parametrize("cls", CLASSES)
def test_error_says_its_message(cls):
    error = cls("model 'detektion' not found; served: detection, face")
    assert str(error) == error.message == "model 'detektion' not found; served: detection, face"
    assert isinstance(error.status, grpc.StatusCode)


def test_only_unavailable_is_retryable():
    assert [cls for cls in CLASSES if cls.retryable] == [errors.UnavailableError]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_every_status_makes_an_error(code):
    error = error_from_status(code, "reason")
    assert "reason" in str(error)
    if type(error) is errors.UnknownError and code is not grpc.StatusCode.UNKNOWN:
        assert str(error) == f"{code.name}: reason"
    else:
        assert error.status is code
        assert str(error) == "reason"


def test_ok_is_no_error():
    with pytest.raises(ValueError, match="OK is not an error"):
        error_from_status(grpc.StatusCode.OK, "")


def test_bad_tensors_and_contracts_are_invalid_requests():
    for cls in (errors.InvalidTensorError, errors.ContractError):
        assert issubclass(cls, errors.InvalidRequestError)
        assert cls.status is grpc.StatusCode.INVALID_ARGUMENT


def test_the_module_shows_every_class_with_its_status():
    for cls in CLASSES:
        line = next(line for line in errors.__doc__.splitlines() if cls.__name__ in line)
        if cls.status is not cls.__base__.status:
            assert f" {cls.status.name}" in line


def test_errors_cross_process_borders():
    error = pickle.loads(pickle.dumps(errors.NotFoundError("gone")))
    assert type(error) is errors.NotFoundError
    assert error.message == "gone"
