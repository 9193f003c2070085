"""Errors that client and server share: each class stands for one gRPC status.

ServiceError
    InvalidRequestError         INVALID_ARGUMENT     what was sent can never work
        InvalidTensorError                           a tensor is malformed
        ContractError                                names, dtypes or shapes break the contract
    NotFoundError               NOT_FOUND            no such model or version
    AlreadyExistsError          ALREADY_EXISTS
    FailedPreconditionError     FAILED_PRECONDITION  the model is not in the state this needs
    PermissionDeniedError       PERMISSION_DENIED
    UnauthenticatedError        UNAUTHENTICATED
    UnimplementedError          UNIMPLEMENTED
    ResourceExhaustedError      RESOURCE_EXHAUSTED   the message is too large, or a limit was hit
    UnavailableError            UNAVAILABLE          retry: not up, draining, or its queue is full
    DeadlineExceededError       DEADLINE_EXCEEDED
    CancelledRequestError       CANCELLED
    DataLossError               DATA_LOSS            a file is damaged
    InternalError               INTERNAL             a fault of the server
    UnknownError                UNKNOWN              every other status
"""

from typing import ClassVar

import grpc


class ServiceError(Exception):
    """Something a caller of the service can be told; the module's docstring shows the tree.

    Args:
        message: names the thing, what was expected, what came, and what exists.

    Attributes:
        status: the gRPC status of the class.
        retryable: whether sending the same request again can help.
    """

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequestError(ServiceError):
    """The request can never work as it is."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class InvalidTensorError(InvalidRequestError):
    """A tensor is malformed, or of a type that cannot be carried."""


class ContractError(InvalidRequestError):
    """Names, dtypes or shapes differ from what the signature promises."""


class NotFoundError(ServiceError):
    """There is no such model, version or file."""

    status = grpc.StatusCode.NOT_FOUND


class AlreadyExistsError(ServiceError):
    """The thing to be created is already there."""

    status = grpc.StatusCode.ALREADY_EXISTS


class FailedPreconditionError(ServiceError):
    """The system is not in the state that the request needs."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class PermissionDeniedError(ServiceError):
    """The caller is known, but may not do this."""

    status = grpc.StatusCode.PERMISSION_DENIED


class UnauthenticatedError(ServiceError):
    """The caller did not prove who it is."""

    status = grpc.StatusCode.UNAUTHENTICATED


class UnimplementedError(ServiceError):
    """The server does not have this method or feature."""

    status = grpc.StatusCode.UNIMPLEMENTED


class ResourceExhaustedError(ServiceError):
    """The message is larger than allowed, or it waited in a queue for too long.

    Not retryable: the same message stays too large, and repeating what an overloaded server
    has just dropped makes the overload worse.
    """

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class UnavailableError(ServiceError):
    """The server cannot be reached, is starting or draining, or its queue is full for now."""

    status = grpc.StatusCode.UNAVAILABLE
    retryable = True


class DeadlineExceededError(ServiceError):
    """The answer did not come in time."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED


class CancelledRequestError(ServiceError):
    """The caller gave up."""

    status = grpc.StatusCode.CANCELLED


class DataLossError(ServiceError):
    """A file is damaged or incomplete."""

    status = grpc.StatusCode.DATA_LOSS


class InternalError(ServiceError):
    """A fault of the server, not of the request."""

    status = grpc.StatusCode.INTERNAL


class UnknownError(ServiceError):
    """The server failed for a reason it did not class, or its status has no class here."""

    status = grpc.StatusCode.UNKNOWN


_CLASSES: dict[grpc.StatusCode, type[ServiceError]] = {
    error.status: error
    for error in (
        InvalidRequestError,
        NotFoundError,
        AlreadyExistsError,
        FailedPreconditionError,
        PermissionDeniedError,
        UnauthenticatedError,
        UnimplementedError,
        ResourceExhaustedError,
        UnavailableError,
        DeadlineExceededError,
        CancelledRequestError,
        DataLossError,
        InternalError,
    )
}


def status_of(number: int) -> grpc.StatusCode | None:
    """Finds a status by the number that travels; None if there is none of it."""
    return next((code for code in grpc.StatusCode if code.value[0] == number), None)


def error_from_status(code: grpc.StatusCode, message: str) -> ServiceError:
    """Makes the error that stands for a status.

    Args:
        code: any status but OK.
        message: the status's details; what the error will say.

    Returns:
        An instance of the class with this status, else an UnknownError; where the status has
        no class of its own, its name goes before the message.

    Raises:
        ValueError: the status is OK, which is no error.
    """
    if code is grpc.StatusCode.OK:
        raise ValueError("status OK is not an error")
    if code in _CLASSES:
        return _CLASSES[code](message)
    return UnknownError(message if code is UnknownError.status else f"{code.name}: {message}")
