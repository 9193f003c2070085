import pytest

from clients.web.problems import Problem
from protocol.errors import (
    ContractError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    ServiceError,
    UnavailableError,
)


@pytest.mark.parametrize(
    ("error", "headline"),
    [
        (InvalidRequestError("why"), "This cannot be answered as it is."),
        (ContractError("why"), "The served model is of another kind than its name says."),
        (NotFoundError("why"), "This model or version is not served."),
        (UnavailableError("why"), "The model server cannot be reached, or is too busy."),
    ],
)
def test_a_known_error(error: ServiceError, headline: str) -> None:
    assert Problem.of(error) == Problem(headline, "why")


def test_any_other_error_names_its_status() -> None:
    assert Problem.of(InternalError("why")) == Problem("The model server failed.", "why (INTERNAL)")
