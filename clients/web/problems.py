"""Errors as a visitor of the page should read them."""

from dataclasses import dataclass

from protocol.errors import (
    ContractError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ServiceError,
    UnauthenticatedError,
    UnavailableError,
)

_HEADLINES: tuple[tuple[type[ServiceError], str], ...] = (
    (ContractError, "The served model is of another kind than its name says."),
    (InvalidRequestError, "This cannot be answered as it is."),
    (NotFoundError, "This model or version is not served."),
    (UnavailableError, "The model server cannot be reached, or is too busy."),
    (DeadlineExceededError, "The model server took too long."),
    (ResourceExhaustedError, "The model server has reached a limit."),
    (UnauthenticatedError, "The model server does not know this page: start it with a token."),
    (PermissionDeniedError, "The model server does not allow this."),
)


@dataclass(frozen=True)
class Problem:
    """Why there is no answer.

    Args:
        headline: What happened, in a sentence.
        detail: What exactly was said.
    """

    headline: str
    detail: str

    @classmethod
    def of(cls, error: ServiceError) -> "Problem":
        """Puts an error into words."""
        for kind, headline in _HEADLINES:
            if isinstance(error, kind):
                return cls(headline, error.message)
        return cls("The model server failed.", f"{error.message} ({error.status.name})")


UNEXPECTED = Problem("The page itself failed.", "What happened is in the log of the page.")
