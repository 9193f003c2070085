from dataclasses import dataclass, field

import pytest

from models.common.config import (
    ConfigError,
    from_dict,
    load_config,
    require_choice,
    require_fraction,
    require_positive,
    save_config,
    to_dict,
)


@dataclass(frozen=True)
class Inner:
    size: int = 3
    kind: str = "a"
    rate: float = 0.5

    def __post_init__(self):
        require_positive(self, "size")
        require_choice(self, "kind", ("a", "b"))
        require_fraction(self, "rate")


@dataclass(frozen=True)
class Outer:
    names: tuple[str, ...] = ("x", "y")
    inner: Inner = field(default_factory=Inner)


def test_round_trip_through_dict_and_file(tmp_path):
    config = Outer(names=("p",), inner=Inner(size=7, kind="b"))
    assert from_dict(Outer, to_dict(config)) == config
    save_config(config, tmp_path / "config.json")
    assert load_config(Outer, tmp_path / "config.json") == config


def test_missing_fields_keep_their_defaults():
    assert from_dict(Outer, {"inner": {"size": 4}}) == Outer(inner=Inner(size=4))


def test_unknown_field_is_named_beside_those_that_exist():
    with pytest.raises(ConfigError, match=r"Inner has no field sise; fields: size, kind, rate"):
        from_dict(Outer, {"inner": {"sise": 4}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "Inner.size must be above 0, got 0"),
        ({"kind": "c"}, "Inner.kind must be one of a, b; got 'c'"),
        ({"rate": 1.0}, r"Inner.rate must lie in \[0, 1\), got 1.0"),
    ],
)
def test_refused_values_name_field_and_limits(values, message):
    with pytest.raises(ConfigError, match=message):
        Inner(**values)
