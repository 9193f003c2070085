import pytest

from protocol.errors import InvalidRequestError, ResourceExhaustedError, UnauthenticatedError
from serving.core.admission import Admission, Rate, digest, read_tokens


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_everybody_may_call_where_nothing_is_set() -> None:
    admission = Admission({})
    assert admission.is_open
    assert admission.check(None, "ipv4:1.2.3.4") == "ipv4:1.2.3.4"


@pytest.mark.parametrize("text", ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "])
def test_a_known_token_names_the_client(text: str) -> None:
    assert Admission({digest("s3cret"): "shop"}).check(text, "") == "shop"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is missing"),
        ("", "must be 'Bearer TOKEN'"),
        ("Basic s3cret", "must be 'Bearer TOKEN'"),
        ("Bearer other", "is not known"),
        ("Bearer ", "is not known"),
    ],
)
def test_others_are_refused_and_tokens_are_not_repeated(text: str | None, message: str) -> None:
    with pytest.raises(UnauthenticatedError, match=message) as caught:
        Admission({digest("s3cret"): "shop"}).check(text, "")
    assert "other" not in str(caught.value)


def test_the_rate_of_one_client_is_not_that_of_another() -> None:
    clock = Clock()
    admission = Admission({}, Rate(per_second=2, burst=3), clock)
    for _ in range(3):
        admission.check(None, "a")
    with pytest.raises(
        ResourceExhaustedError, match=r"a calls more often .* try again in 0\.500 s"
    ):
        admission.check(None, "a")
    admission.check(None, "b")
    clock.now += 0.5
    admission.check(None, "a")
    with pytest.raises(ResourceExhaustedError):
        admission.check(None, "a")
    clock.now += 1000
    for _ in range(3):
        admission.check(None, "a")
    with pytest.raises(ResourceExhaustedError):
        admission.check(None, "a")


def test_endless_new_clients_do_not_fill_the_memory() -> None:
    admission = Admission({}, Rate(1, 1))
    for number in range(30_000):
        admission.check(None, str(number))
    assert len(admission._buckets) <= 10_000


def test_token_files(tmp_path) -> None:
    path = tmp_path / "tokens"
    path.write_text("# clients\nshop  abc\n\nlab xyz # new\n")
    assert read_tokens(path) == {digest("abc"): "shop", digest("xyz"): "lab"}


@pytest.mark.parametrize(
    ("text", "message"), [("shop abc def", "line 1"), ("ok a\nshop", "line 2"), ("#", "no token")]
)
def test_wrong_token_files(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match=message):
        read_tokens(path)
    with pytest.raises(InvalidRequestError, match="Can not read"):
        read_tokens(tmp_path / "none")
