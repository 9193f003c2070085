"""What h2load prints is read, and believed only if the bytes are right."""

import pytest

from tests.bench.load import LoadError, counted

PRINTED = """
finished in 3.00s, 100.00 req/s, 11.72KB/s
requests: 200 total, 200 started, 200 done, 200 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 308 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 15.00KB (15360) total, 1.88KB (1920) headers (space savings 90.00%), 12.03KB ({}) data
"""


def test_answers_with_and_without_those_of_the_warm_up():
    assert counted(PRINTED.format(300 * 40), answer_bytes=40) == (200, 300)


@pytest.mark.parametrize("received", [300 * 40 + 1, 199 * 40])
def test_other_sizes_are_no_answers(received):
    with pytest.raises(LoadError, match=f"200 answers have {received} bytes, expected 40 each"):
        counted(PRINTED.format(received), answer_bytes=40)


def test_no_answer_at_all():
    printed = PRINTED.format(0).replace("200 total", "0 total")
    with pytest.raises(LoadError, match="no answer"):
        counted(printed, answer_bytes=40)


def test_something_else_was_printed():
    with pytest.raises(LoadError, match="something else"):
        counted("Could not resolve", answer_bytes=40)
