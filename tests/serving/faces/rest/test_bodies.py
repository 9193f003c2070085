import gzip

import pytest

from serving.faces.rest.bodies import unpack


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_bodies_up_to_the_limit_are_unpacked(size) -> None:
    assert unpack(gzip.compress(b"x" * size), 1000) == b"x" * size


def test_what_does_not_unpack_is_empty() -> None:
    packed = gzip.compress(b"x" * 1000)
    damaged = packed[:-8] + bytes(8)
    for body in (b"", b"x", packed[:-1], damaged, gzip.compress(b"x" * 1001)):
        assert unpack(body, 1000) == b""


def test_a_bomb_is_not_unpacked() -> None:
    assert unpack(gzip.compress(bytes(1 << 26)), 1 << 10) == b""
