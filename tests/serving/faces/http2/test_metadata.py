import grpc
import pytest

from protocol.errors import InternalError
from serving.faces.http2.metadata import (
    custom_metadata,
    encoded_metadata,
    parse_timeout,
    status_trailers,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"250m", 0.25),
        (b"99999999u", 99.999999),
        (b"5n", 5e-9),
    ],
)
def test_timeouts(text, seconds):
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"1s", b"-1S", b"123456789S", b"1 S", b"1.5S"])
def test_wrong_timeouts(text):
    with pytest.raises(InternalError, match="grpc-timeout must be"):
        parse_timeout(text)


def test_custom_metadata_leaves_the_protocols_own_headers_out():
    headers = [
        (b":path", b"/a/b"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"1S"),
        (b"user-agent", b"x"),
        (b"id-bin", b"AP8"),
    ]
    assert custom_metadata(headers) == [("user-agent", "x"), ("id-bin", b"\x00\xff")]


def test_wrong_binary_metadata():
    with pytest.raises(InternalError, match="id-bin is not base64"):
        custom_metadata([(b"id-bin", b"!!!")])


def test_encoded_metadata_goes_back_to_what_it_was():
    metadata = [("a", "b c"), ("id-bin", b"\x00\xff\x10")]
    assert custom_metadata(encoded_metadata(metadata)) == metadata


def test_metadata_that_can_not_travel_is_left_out():
    assert encoded_metadata([("a", "line\nbreak")]) == []


def test_status_texts_are_percent_encoded():
    trailers = dict(status_trailers(grpc.StatusCode.NOT_FOUND, "100 % \u00e9\n"))
    assert trailers == {b"grpc-status": b"5", b"grpc-message": b"100 %25 %C3%A9%0A"}


def test_a_good_status_has_no_text():
    assert status_trailers(grpc.StatusCode.OK, "") == [(b"grpc-status", b"0")]
