import pytest

from clients import AsyncPredictClient, AsyncSentimentClient, ClientConfig
from clients.web.timing import TimedTransport, read_times
from tests.clients.conftest import VERSION, FakeServer
from tests.clients.web.conftest import tell_times


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("wait;dur=0.1, run;dur=1.2", {"wait": 0.1, "run": 1.2}),
        ("total;desc=all;dur=3", {"total": 3.0}),
        ("miss, cached;desc=yes, run;dur=soon", {}),
        ("", {}),
    ],
)
def test_read_times(header: str, expected: dict[str, float]) -> None:
    assert read_times(header) == expected


async def test_a_call_knows_the_times_of_the_server(
    server: FakeServer, transport: TimedTransport
) -> None:
    tell_times(server, "wait;dur=0.25, run;dur=1.5")
    client = transport.client(AsyncSentimentClient, "sentiment", VERSION)
    await client.classify_one("good")
    [call] = transport.calls
    assert (call.method, call.version) == ("Predict", VERSION)
    assert call.server_ms == {"wait": 0.25, "run": 1.5}
    assert call.round_trip_ms > 0
    assert server.calls[0].request.model_spec.version.value == VERSION


async def test_a_server_that_tells_no_times(server: FakeServer, transport: TimedTransport) -> None:
    await transport.client(AsyncSentimentClient, "sentiment", None).classify_one("good")
    [call] = transport.calls
    assert (call.server_ms, call.version) == ({}, VERSION)
    assert server.calls[0].metadata["x-server-timing"] == "1"


async def test_other_calls_do_not_ask_for_times(server: FakeServer, config: ClientConfig) -> None:
    async with AsyncPredictClient(config) as client:
        await client.status("sentiment")
    assert "x-server-timing" not in server.calls[0].metadata
