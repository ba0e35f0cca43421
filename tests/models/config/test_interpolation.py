"""References between the keys of a lazy config."""

from typing import Any

import pytest

from models import ConfigError
from models.config.interpolation import resolve

TREE = {"a": {"b": [1, {"c": "x"}], "d": {"e": 2}}, "n": None}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("${a.d.e}", 2),
        ("${a.d}", {"e": 2}),
        ("${a.b.1.c}", "x"),
        ("${a.b[1].c}", "x"),
        ("${.near}", 5),
        ("${..n}", None),
        ("${..a.d.e}", 2),
        ("p${a.d.e}-${.near}", "p2-5"),
        ("${ .near }", 5),
        ("no reference $x {y}", "no reference $x {y}"),
    ],
)
def test_a_reference_is_replaced_by_its_value(reference: str, value: Any) -> None:
    tree = {**TREE, "here": {"it": reference, "near": 5}}
    assert resolve(tree, ("here",), "c") == {"it": value, "near": 5}


def test_references_to_references_are_followed() -> None:
    tree = {"a": {"x": "${b.y.z}"}, "b": {"y": "${c}"}, "c": {"z": ["${d}"]}, "d": 1}
    assert resolve(tree, ("a",), "c") == {"x": [1]}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": "${b}"}, "names b, which does not exist"),
        ({"a": "${a}"}, "a refers to itself"),
        ({"a": "${b}", "b": "x${a}"}, "refers to itself"),
        ({"a": {"b": "${a}"}}, "refers to itself|too deeply"),
        ({"a": "${....b}"}, "leads out of the file"),
        ({"a": "${oc.env:HOME}"}, "functions are not evaluated"),
        ({"a": "${}"}, "functions are not evaluated"),
        ({"a": "${b[5]}", "b": [1]}, "does not exist"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(tree, ("a",), "c")


def test_references_that_would_expand_without_end_are_refused() -> None:
    tree: dict[str, Any] = {f"a{i}": [f"${{a{i + 1}}}"] * 10 for i in range(20)}
    tree["a20"] = 1
    with pytest.raises(ConfigError, match="stands for more than"):
        resolve(tree, ("a0",), "c")
