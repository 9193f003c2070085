import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InternalError, ResourceExhaustedError, UnimplementedError
from serving.faces.http2.messages import MessageReader, framed, unpack

LIMIT = 1000


def packed(message: bytes, pack) -> bytes:
    body = framed(pack(message))
    return b"\1" + body[1:]


def read(body: bytes, encoding: str = "identity", limit: int = LIMIT) -> list[bytes]:
    reader = MessageReader(encoding, limit)
    found = list(reader.feed(body))
    reader.check_end()
    return found


@given(st.lists(st.binary(max_size=60), max_size=5), st.lists(st.integers(1, 20)))
def test_messages_do_not_depend_on_where_the_body_was_cut(messages, cuts):
    body = b"".join(map(framed, messages))
    reader = MessageReader("identity", LIMIT)
    found = []
    for cut in [*cuts, len(body)]:
        found += reader.feed(body[:cut])
        body = body[cut:]
    reader.check_end()
    assert found == messages


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_packed_messages(encoding, pack):
    assert read(packed(b"hello", pack) + framed(b"you"), encoding) == [b"hello", b"you"]


def test_messages_up_to_the_limit():
    assert read(framed(b"x" * LIMIT)) == [b"x" * LIMIT]
    with pytest.raises(ResourceExhaustedError, match=r"larger than max \(1001 vs\. 1000\)"):
        read(framed(b"x" * (LIMIT + 1)))


def test_a_large_message_is_refused_before_it_came():
    with pytest.raises(ResourceExhaustedError):
        list(MessageReader("identity", LIMIT).feed(framed(b"x" * 5000)[:5]))


def test_a_small_message_that_unpacks_to_a_large_one_is_refused():
    bomb = gzip.compress(b"\0" * 10_000_000)
    with pytest.raises(ResourceExhaustedError):
        unpack(bomb, "gzip", LIMIT)


@pytest.mark.parametrize(
    ("body", "encoding", "error", "text"),
    [
        (framed(b"hello")[:7], "identity", InternalError, "ends within a message"),
        (b"\0\0", "identity", InternalError, "ends within a message"),
        (b"\2\0\0\0\1x", "identity", InternalError, "must be 0 or 1, got 2"),
        (b"\1\0\0\0\1x", "identity", InternalError, "grpc-encoding is not given"),
        (b"\1\0\0\0\3xyz", "gzip", InternalError, "is not valid gzip"),
        (
            packed(b"hello" * 9, lambda m: gzip.compress(m, mtime=0)[:-9]),
            "gzip",
            InternalError,
            "too early",
        ),
        (b"\1\0\0\0\1x", "snappy", UnimplementedError, "identity, deflate, gzip"),
    ],
)
def test_broken_bodies(body, encoding, error, text):
    with pytest.raises(error, match=text):
        read(body, encoding)
