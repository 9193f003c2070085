"""The page's own server, without a browser."""

import re
import urllib.request
from pathlib import Path

import pytest

from tests.clients.web.conftest import web_page

pytestmark = [pytest.mark.e2e]
pytest.importorskip("nicegui")


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    with (
        web_page("localhost:1", tmp_path / "web.log") as address,
        urllib.request.urlopen(address, timeout=60) as page,
    ):
        policy = page.headers["Content-Security-Policy"]
        text = page.read().decode()
    assert policy.startswith("default-src 'self' ")
    assert "http" not in policy
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", text) == []
