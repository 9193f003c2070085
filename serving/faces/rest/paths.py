"""Paths under `/v1/`: which model, which version, which question."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from protocol.errors import InvalidRequestError
from serving.core.manager import ModelChoice

_VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_GET = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<method>metadata))?", re.IGNORECASE
)
_PATTERNS = {"GET": _GET, "POST": _POST}
_ANY = re.compile(r"/v1/.*", re.IGNORECASE)

_LISTING = "/v1/models"
_LARGEST_VERSION = 2**63 - 1

STATUS, METADATA, MODELS = "", "metadata", "models"
PREDICT, CLASSIFY, REGRESS = "predict", "classify", "regress"


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about.

    Attributes:
        model: Which model and version; its name is empty where all models are listed.
        method: `predict`, `classify` or `regress` of a POST; `metadata`, `models` or empty (the
            status) of a GET.
    """

    model: ModelChoice
    method: str


def is_rest(path: str) -> bool:
    """Whether a path belongs to the REST API."""
    return _ANY.fullmatch(path) is not None


def read_target(http_method: str, path: str) -> Target:
    """Reads a path.

    Case does not matter but in the method: `:PREDICT` is no request, `/METADATA` is one for the
    status, as in TensorFlow Serving.

    Args:
        http_method: `GET`, `POST`, ...
        path: As it was sent, percent-encoded, with its query string.

    Raises:
        InvalidRequestError: There is no such path for this HTTP method, or the version is too
            large for a number.
    """
    pattern = _PATTERNS.get(http_method)
    found = pattern.fullmatch(path) if pattern is not None else None
    if found is None or (http_method == "POST" and not found["method"].islower()):
        raise InvalidRequestError(f"Malformed request: {http_method} {path}")
    if found["name"] is None:
        return _listing(path)
    model = ModelChoice(
        unquote(found["name"], errors="surrogateescape"),
        _version(found["version"]),
        unquote(found["label"], errors="surrogateescape") if found["label"] else None,
    )
    method = found["method"] or STATUS
    return Target(model, method if method.islower() else STATUS)


def _listing(path: str) -> Target:
    if path.lower() != _LISTING:
        raise InvalidRequestError("Missing model name in request.")
    return Target(ModelChoice(""), MODELS)


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(_LARGEST_VERSION)) or int(digits) > _LARGEST_VERSION:
        raise InvalidRequestError(f"Failed to convert version: {text} to numeric.")
    return int(digits)
