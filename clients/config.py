"""How a client reaches a model server: address, deadline, retries, TLS, credentials, limits."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from clients.retry import Backoff

DEFAULT_TARGET = "localhost:8500"
UNLIMITED = -1
LOAD_BALANCING = ("pick_first", "round_robin")


@dataclass(frozen=True)
class TlsConfig:
    """Certificates of an encrypted channel; all files are PEM.

    Args:
        ca_file: Certificates to trust; None trusts the ones that come with gRPC.
        cert_file: The client's own certificate chain, for servers that verify clients.
        key_file: The private key of `cert_file`.
        server_name: Name expected in the server's certificate, where it differs from the target.

    Raises:
        ValueError: Only one of `cert_file` and `key_file` is given, or a file does not exist.
    """

    ca_file: Path | str | None = None
    cert_file: Path | str | None = None
    key_file: Path | str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError(
                "cert_file and key_file: expected both or neither, "
                f"got cert_file={self.cert_file}, key_file={self.key_file}"
            )
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"{name}: expected a PEM file, got {path} (no such file)")


@dataclass(frozen=True)
class ClientConfig:
    """Everything a client needs to know about its connection.

    Args:
        target: `host:port`, or another gRPC name such as `unix:/run/serving.sock`.
        timeout_s: Deadline of one call in seconds, retries included; > 0.
        max_retries: Further attempts after UNAVAILABLE; 0 switches retries off.
        backoff: Waits between the attempts.
        tls: Certificates; None means an unencrypted channel.
        token: Sent as `authorization: Bearer <token>` with every call.
        metadata: Further (name, value) pairs sent with every call; lower-case names.
        max_message_bytes: Largest message in either direction; -1 for no limit.
        keepalive_s: Ping an active connection after this long without data; None for never.
        keepalive_timeout_s: A ping unanswered for so long closes the connection.
        load_balancing: Of gRPC's policies, where the name stands for several servers:
            "pick_first" stays with one, "round_robin" gives each of them its turn.

    Raises:
        ValueError: A field is out of range; the message names the field, what is allowed
            and what was given.
    """

    target: str = DEFAULT_TARGET
    timeout_s: float = 10.0
    max_retries: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    tls: TlsConfig | None = None
    token: str | None = field(default=None, repr=False)
    metadata: tuple[tuple[str, str], ...] = ()
    max_message_bytes: int = UNLIMITED
    keepalive_s: float | None = 60.0
    keepalive_timeout_s: float = 20.0
    load_balancing: str = "pick_first"

    def __post_init__(self) -> None:
        _check_target(self.target)
        check_timeout(self.timeout_s)
        if self.max_retries < 0:
            raise ValueError(f"max_retries: expected 0 or more, got {self.max_retries}")
        if self.max_message_bytes != UNLIMITED and self.max_message_bytes <= 0:
            raise ValueError(
                "max_message_bytes: expected a positive number or -1 for no limit, "
                f"got {self.max_message_bytes}"
            )
        for name in ("keepalive_s", "keepalive_timeout_s"):
            seconds = getattr(self, name)
            if seconds is not None and seconds <= 0:
                raise ValueError(f"{name}: expected seconds > 0, got {seconds}")
        if self.load_balancing not in LOAD_BALANCING:
            raise ValueError(
                f"load_balancing: expected {' or '.join(LOAD_BALANCING)}, "
                f"got {self.load_balancing!r}"
            )
        if self.token is not None:
            _check_token(self.token)
        for name, value in self.metadata:
            _check_metadata(name, value)

    @classmethod
    def of(cls, target: "str | ClientConfig") -> "ClientConfig":
        """Returns `target` itself if it is a config, else the defaults for that address."""
        return target if isinstance(target, ClientConfig) else cls(target=target)


def check_timeout(timeout_s: float) -> None:
    """Raises ValueError unless `timeout_s` is a finite number of seconds above zero."""
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ValueError(f"timeout_s: expected a finite number of seconds > 0, got {timeout_s}")


def _check_target(target: str) -> None:
    if "://" in target and target.split("://", 1)[0] in ("http", "https", "grpc", "grpcs"):
        raise ValueError(f"target: expected host:port without a scheme, got {target!r}")
    if ":" not in target.strip(":"):
        raise ValueError(f"target: expected host:port, such as {DEFAULT_TARGET}, got {target!r}")


def _check_token(token: str) -> None:
    if not (token and token.isascii() and token.isprintable()):
        raise ValueError("token: expected printable ASCII characters, got others or none")


def _check_metadata(name: str, value: str) -> None:
    allowed = name.replace("-", "").replace("_", "").replace(".", "")
    if not (allowed.isascii() and allowed.isalnum() and name == name.lower()):
        raise ValueError(
            "metadata: expected names of lower-case letters, digits, '-', '_' and '.', "
            f"got {name!r}"
        )
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"metadata: expected a printable ASCII value for {name!r}")
