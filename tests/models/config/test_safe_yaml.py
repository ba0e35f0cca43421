"""YAML from files that nobody vouches for: what it gives, and everything it refuses."""

import pytest

from models.config.safe_yaml import MAX_BYTES, parse, parse_plain, parse_scalar
from models.errors import ConfigError


def test_plain_values_read_as_yaml_1_1() -> None:
    text = b"\xef\xbb\xbfA: [1, 2.5, .inf, yes, null, ~, text, 0x1F, 2020-01-01, =]\nB: {C: 'x'}"
    assert parse(text, "c.yaml") == {
        "A": [1, 2.5, float("inf"), True, None, None, "text", 31, "2020-01-01", "="],
        "B": {"C": "x"},
    }


def test_aliases_and_merge_keys_are_plain_values() -> None:
    text = b"A: &a {X: 1, Y: 2}\nB: {<<: *a, Y: 3}\nC: *a\nD: {<<: [{X: 5}, *a]}"
    values = parse(text, "c.yaml")
    assert values["B"] == {"X": 1, "Y": 3}
    assert values["C"] == {"X": 1, "Y": 2}
    assert values["D"] == {"X": 5, "Y": 2}


def test_a_tuple_tag_is_a_list() -> None:
    assert parse(b"A: !!python/tuple [1, 2]", "c.yaml") == {"A": [1, 2]}


def test_the_anchor_sizes_of_retinanet_are_computed() -> None:
    text = (
        b'A: !!python/object/apply:eval ["[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] '
        b'for x in [32, 64.5 ]]"]'
    )
    assert parse(text, "c.yaml") == {
        "A": [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in [32, 64.5]]
    }


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "[[x, __import__('os')] for x in [32]]",
        "[[x, x * 2**(1.0/3)] for x in [32, y]]",
        "[[x] for x in [32]] + [1]",
        "[[x, x * 2**(1/0)] for x in [32]]",
        "[[x, x * 999999999**(999999999/1)] for x in [32]]",
        "[[x, x * 2**(1/3)] for x in []]",
    ],
)
def test_any_other_expression_is_refused(expression: str) -> None:
    text = f'A: !!python/object/apply:eval ["{expression}"]'
    with pytest.raises(ConfigError, match=r"not allowed|nothing was executed|not finite"):
        parse(text.encode(), "c.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "A: !!python/object/apply:os.system ['true']",
        "A: !!python/object/new:os.system ['true']",
        "A: !!python/name:os.system",
        "A: !!python/module:os",
        "A: !!python/object/apply:eval 'x'",
        "A: !!python/object/apply:eval {a: b}",
        "A: !custom 3",
        "A: !!binary aGk=",
        "A: !!set {a}",
        "A: !!python/tuple {a: b}",
        "!!python/object/apply:os.system {A: b}",
        "? !!python/object/apply:os.system ['true']\n: 3",
    ],
)
def test_every_other_tag_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"tag .*\(line 2\).*nothing was executed"):
        parse(f"# first line\n{text}".encode(), "c.yaml")


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    with pytest.raises(ConfigError, match="more than 100000 values"):
        parse("\n".join(lines).encode(), "c.yaml")


@pytest.mark.parametrize("depth", [100, 20_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse(b"A: " + b"[" * depth + b"]" * depth, "c.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- 1\n- 2", "top level"),
        (b"just text", "top level"),
        (b"A: &a [*a]", "alias to itself"),
        (b"A: 1\nA: 2", r"the key A twice \(line 2\)"),
        (b"A: {B: 1, B: 2}", "the key B twice"),
        (b"1: x", "cannot be a key"),
        (b"A.B: x", "cannot be a key"),
        (b"[1, 2]: x", "cannot be a key"),
        (b"A: [1, 2", "not valid YAML"),
        (b"A: 1\n---\nB: 2", "not valid YAML"),
        (b"A: *nothing", "not valid YAML"),
        (b"A: \x01", "not valid YAML"),
        (b"\x80\x02}q\x00.", "not a text file"),
        (b"A: !!int x", "is not a !!int"),
        (b"A: " + b"9" * 5000, "is not a !!int"),
        (b"A: {<<: 3}", "needs a mapping"),
        (b"A: '" + b"x" * MAX_BYTES + b"'", "larger than 1 MiB"),
        (b"train: {a: [{_target_: os.system}]}", "lazy config"),
    ],
)
def test_what_is_no_config_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(data, "c.yaml")
    assert caught.value.message.startswith("c.yaml")


def test_a_call_outside_of_a_lazy_config_is_refused_before_its_tags() -> None:
    text = b"MODEL:\n  _target_: a.B\n  norm: !!python/name:a.C ''"
    with pytest.raises(ConfigError, match=r"_target_ keys \(line 2\)"):
        parse(text, "c.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("3", 3), ("[a, 1]", ["a", 1]), ("", ""), ("a: [", "a: ["), ("!x y", "!x y")],
)
def test_a_scalar_that_is_no_yaml_stays_text(text: str, value: object) -> None:
    assert parse_scalar(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"", None), (b"[1, a]", [1, "a"]), (b"{a: 1.5}", {"a": 1.5}), (b"2020-01-01", "2020-01-01")],
)
def test_a_document_that_is_no_config_reads_as_its_value(text: bytes, value: object) -> None:
    assert parse_plain(text, "m.yaml") == value


@pytest.mark.parametrize("text", [b"!!python/name:os.system ''", b"&a [*a]", b"[", b"\xff"])
def test_such_a_document_is_held_to_the_same_rules(text: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^m\.yaml"):
        parse_plain(text, "m.yaml")
