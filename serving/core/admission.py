"""Who may call, and how often: bearer tokens and a rate for each client. Both are optional."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import InvalidRequestError, ResourceExhaustedError, UnauthenticatedError

_SCHEME = "bearer "
# Clients whose rate is remembered; the one not seen for longest is forgotten first.
_MOST_CLIENTS = 10_000


@dataclass(frozen=True)
class Rate:
    """How often one client may call.

    Attributes:
        per_second: Calls per second, on average.
        burst: Calls at once after a pause.
    """

    per_second: float
    burst: int


class Admission:
    """Lets calls in, or refuses them before anything is done for them.

    Args:
        tokens: Client's name by the SHA-256 of its token; empty if everybody may call.
        rate: For each client, told apart by name, else by address; None for no limit.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        tokens: Mapping[bytes, str],
        rate: Rate | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = dict(tokens)
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether everybody may call as often as they like."""
        return not self._tokens and self._rate is None

    def check(self, authorization: str | None, address: str) -> str:
        """Lets one call in.

        Args:
            authorization: The header of that name: `Bearer TOKEN`.
            address: Of the caller, without its port.

        Returns:
            The client's name, or its address where there are no tokens.

        Raises:
            UnauthenticatedError: The token is missing or not known.
            ResourceExhaustedError: The client calls too often.
        """
        client = self._client(authorization) if self._tokens else address
        if self._rate is not None:
            self._count(client, self._rate)
        return client

    def _client(self, authorization: str | None) -> str:
        if authorization is None:
            raise UnauthenticatedError("The header 'authorization: Bearer TOKEN' is missing")
        if not authorization.lower().startswith(_SCHEME):
            raise UnauthenticatedError("The header 'authorization' must be 'Bearer TOKEN'")
        client = self._tokens.get(digest(authorization[len(_SCHEME) :].strip()))
        if client is None:
            raise UnauthenticatedError("The bearer token is not known")
        return client

    def _count(self, client: str, rate: Rate) -> None:
        """Takes one from the client's bucket, which fills up steadily."""
        now = self._clock()
        left, seen = self._buckets.pop(client, (float(rate.burst), now))
        left = min(rate.burst, left + (now - seen) * rate.per_second)
        enough = left >= 1
        self._buckets[client] = (left - 1 if enough else left, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if not enough:
            raise ResourceExhaustedError(
                f"{client} calls more often than {rate.per_second:g} times a second; "
                f"try again in {(1 - left) / rate.per_second:.3f} s"
            )


def digest(token: str) -> bytes:
    """The SHA-256 of a token: to look it up takes a time that tells nothing of it."""
    return hashlib.sha256(token.encode()).digest()


def read_tokens(path: str | Path) -> dict[bytes, str]:
    """Reads a file with a client's name and its token on each line; `#` begins a comment.

    Returns:
        Name by the token's digest.

    Raises:
        InvalidRequestError: The file can not be read, or a line has another form.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can not read file '{path}': {error}") from error
    tokens: dict[bytes, str] = {}
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if words and len(words) != 2:
            raise InvalidRequestError(f"'{path}', line {number}: expected a name and a token")
        if words:
            tokens[digest(words[1])] = words[0]
    if not tokens:
        raise InvalidRequestError(f"'{path}' holds no token")
    return tokens
