"""Configs refuse what cannot work, and say what they expected."""

from pathlib import Path
from typing import Any

import pytest

from clients.config import ClientConfig, TlsConfig


def test_defaults() -> None:
    config = ClientConfig()
    assert config.target == "localhost:8500"
    assert config.timeout_s == 10.0
    assert config.max_message_bytes == -1
    assert config.tls is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": ""}, "target: expected host:port"),
        ({"target": "localhost"}, "target: expected host:port"),
        ({"target": "http://localhost:8500"}, "without a scheme"),
        ({"timeout_s": 0}, "timeout_s: expected a finite number of seconds > 0, got 0"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"max_retries": -1}, "max_retries: expected 0 or more, got -1"),
        ({"max_message_bytes": 0}, "max_message_bytes"),
        ({"keepalive_s": 0.0}, "keepalive_s"),
        ({"keepalive_timeout_s": -1.0}, "keepalive_timeout_s"),
        ({"load_balancing": "random"}, "load_balancing: expected pick_first or round_robin"),
        ({"token": ""}, "token"),
        ({"token": "line\nbreak"}, "token"),
        ({"metadata": (("Upper", "x"),)}, "metadata"),
        ({"metadata": (("name", "snow \N{SNOWMAN}"),)}, "metadata"),
    ],
)
def test_rejects(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClientConfig(**fields)


def test_an_error_about_the_token_does_not_show_it() -> None:
    with pytest.raises(ValueError) as caught:
        ClientConfig(token="secret\n")
    assert "secret" not in str(caught.value)


def test_the_token_is_not_printed_with_the_config() -> None:
    assert "secret" not in repr(ClientConfig(token="secret"))


@pytest.mark.parametrize(
    "target", ["10.0.0.1:8500", "[::1]:8500", "unix:/run/serving.sock", "dns:///models:8500"]
)
def test_accepts_targets(target: str) -> None:
    assert ClientConfig.of(target).target == target


def test_of_keeps_a_config() -> None:
    config = ClientConfig(timeout_s=1.0)
    assert ClientConfig.of(config) is config


def test_tls_needs_certificate_and_key_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected both or neither"):
        TlsConfig(cert_file=tmp_path / "client.pem")


def test_tls_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ca_file: .*nothing\.pem"):
        TlsConfig(ca_file=tmp_path / "nothing.pem")
