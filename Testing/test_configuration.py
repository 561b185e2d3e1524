"""Frozen dataclasses to JSON types and back, with errors that name the key."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.networks.unet import UNetConfig


@dataclass(frozen=True)
class Inner:
    size: int
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner
    name: str = "x"
    flag: bool = False
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    maybe: float | None = None
    parts: tuple[Inner, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    named: dict[str, Inner] = field(default_factory=dict)


FULL = Outer(
    Inner(3, 0.25), "y", True, (-1.0, 2.0), (1, 2), 4.0, (Inner(1), Inner(2)), {"a": [1, None]}, {"b": Inner(5)}
)


def test_there_and_back_through_json():
    assert from_dict(Outer, json.loads(json.dumps(to_dict(FULL)))) == FULL
    assert to_dict(FULL) == {
        "inner": {"size": 3, "rate": 0.25},
        "name": "y",
        "flag": True,
        "pair": [-1.0, 2.0],
        "many": [1, 2],
        "maybe": 4.0,
        "parts": [{"size": 1, "rate": 0.5}, {"size": 2, "rate": 0.5}],
        "notes": {"a": [1, None]},
        "named": {"b": {"size": 5, "rate": 0.5}},
    }


def test_defaults_fill_what_is_left_out():
    assert from_dict(Outer, {"inner": {"size": 1}}) == Outer(Inner(1))


@pytest.mark.parametrize("name", METHODS)
def test_method_configurations_survive(name):
    config = METHODS[name].Config()
    assert from_dict(METHODS[name].Config, json.loads(json.dumps(to_dict(config)))) == config


def test_integers_serve_as_floats_but_nothing_else_converts():
    got = from_dict(Outer, {"inner": {"size": 1, "rate": 2}, "pair": [0, 1], "maybe": 3})
    assert (got.inner.rate, got.pair, got.maybe) == (2.0, (0.0, 1.0), 3.0)
    assert all(isinstance(v, float) for v in (got.inner.rate, *got.pair, got.maybe))


INNER = {"size": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "Outer must be a mapping of settings, got list"),
        ({}, r"Missing key Outer\.inner"),
        ({"inner": {}}, r"Missing key Outer\.inner\.size"),
        ({"inner": INNER, "nmae": 1}, r"Unknown key Outer\.nmae; known keys: inner, name"),
        ({"inner": INNER | {"sise": 1}}, r"Unknown key Outer\.inner\.sise; known keys: size, rate"),
        ({"inner": 3}, r"Outer\.inner must be a mapping of settings, got int"),
        ({"inner": {"size": "3"}}, r"Outer\.inner\.size must be int, got '3'"),
        ({"inner": {"size": 1.5}}, r"Outer\.inner\.size must be int, got 1\.5"),
        ({"inner": {"size": True}}, r"Outer\.inner\.size must be int, got True"),
        ({"inner": {"size": 1, "rate": True}}, r"Outer\.inner\.rate must be float, got True"),
        ({"inner": INNER, "flag": 1}, r"Outer\.flag must be bool, got 1"),
        ({"inner": {"size": 10**400}}, r"Outer\.inner\.size must be a number of at most 2\*\*63 - 1"),
        ({"inner": {"size": 1, "rate": 10**400}}, r"Outer\.inner\.rate must be a number of at most"),
        ({"inner": INNER, 3: 1}, r"Unknown key Outer\.3"),
        ({"inner": INNER, "name": None}, r"Outer\.name must be str, got None"),
        ({"inner": INNER, "pair": [1]}, r"Outer\.pair must hold 2 values, got \[1\]"),
        ({"inner": INNER, "pair": 1}, r"Outer\.pair must be a list, got 1"),
        ({"inner": INNER, "pair": [0, "1"]}, r"Outer\.pair\[1\] must be float, got '1'"),
        ({"inner": INNER, "many": [1, 2, "3"]}, r"Outer\.many\[2\] must be int, got '3'"),
        ({"inner": INNER, "maybe": "none"}, r"Outer\.maybe must be float, got 'none'"),
        ({"inner": INNER, "parts": [INNER, {"sise": 2}]}, r"Unknown key Outer\.parts\[1\]\.sise"),
        ({"inner": INNER, "notes": []}, r"Outer\.notes must be a mapping, got \[\]"),
        ({"inner": INNER, "named": {"b": {"sise": 1}}}, r"Unknown key Outer\.named\.b\.sise"),
    ],
)
def test_errors_name_the_key(data, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Outer, data)


def test_errors_name_the_place_in_the_file():
    with pytest.raises(ValueError, match=r"^Missing key inner; add it\."):
        from_dict(Outer, {}, where="")
    with pytest.raises(ValueError, match=r"^inner\.size must be int"):
        from_dict(Outer, {"inner": {"size": "3"}}, where="")
    with pytest.raises(ValueError, match=r"^The file must be a mapping"):
        from_dict(Outer, [], where="")
    with pytest.raises(ValueError, match=r"method_config\.unet\.channel_mult\[1\] must be int, got 'two'"):
        from_dict(UNetConfig, {"channel_mult": [1, "two"]}, where="method_config.unet")
