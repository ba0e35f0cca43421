"""Laying one tree of config values over another, with the types of the defaults enforced.

The rules are those that Detectron2's users know: an int fits a float key, a tuple fits a list key
and the other way round, text that spells a Python literal is that literal; nothing else converts.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from typing import Any

from models.errors import ConfigError

# A literal longer than this is no config value; Python's own parser should not see it.
_MAX_LITERAL_LENGTH = 10_000
_MAX_INT_BITS = 64
_UNKNOWN = object()


def merge_(values: dict[str, Any], changes: Mapping[str, Any], defaults: Any, path: str) -> None:
    """Lays ``changes`` over ``values`` in place.

    Args:
        values: the tree that is changed.
        changes: the tree that wins; sections that it leaves out stay as they are.
        defaults: the defaults of this section, which give the types; keys that are missing there
            take any plain value.
        path: dotted name of this section, "" at the root.

    Raises:
        ConfigError: a value has another type than its default.
    """
    for key, value in changes.items():
        name = f"{path}.{key}" if path else key
        default = defaults.get(key, _UNKNOWN)
        if isinstance(default, Mapping):
            # "SOLVER:" with nothing below it is an empty section.
            section = {} if value is None else value
            if not isinstance(section, Mapping):
                raise _wrong_type(name, "a section with keys of its own", value)
            merge_(values.setdefault(key, {}), section, default, name)
        elif default is not _UNKNOWN:
            values[key] = coerce(name, value, default)
        elif isinstance(value, Mapping):
            section = values.get(key)
            values[key] = section if isinstance(section, dict) else {}
            merge_(values[key], value, {}, name)
        else:
            values[key] = plain(name, decode_literal(value))


def coerce(name: str, value: Any, default: Any) -> Any:
    """Returns ``value`` as the type of ``default``.

    Raises:
        ConfigError: it is of another type; names the key, what is expected and what was given.
    """
    if isinstance(default, str):
        if value is None:  # "NORM:" and "NORM: null" mean no norm, as "" does
            return ""
        if not isinstance(value, str):
            raise _wrong_type(name, "text", value)
        return value
    value = decode_literal(value)
    if default is None:
        return plain(name, value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise _wrong_type(name, "True or False", value)
        return value
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(name, "a whole number", value)
        return plain(name, value)
    if isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(name, "a number", value)
        try:
            return float(value)
        except OverflowError:
            raise _wrong_type(name, "a number", value) from None
    if not isinstance(value, list | tuple):
        raise _wrong_type(name, "a list", value)
    leaves = _leaves(default)
    for kind, word in (((int, float), "a list of numbers"), ((str,), "a list of texts")):
        if leaves and all(isinstance(leaf, kind) for leaf in leaves):
            wrong = [leaf for leaf in _leaves(value) if not isinstance(leaf, kind)]
            if wrong:
                raise _wrong_type(name, word, value)
    value = plain(name, value)
    return _as_tuple(value) if isinstance(default, tuple) else value


def plain(name: str, value: Any) -> Any:
    """Returns ``value`` with every tuple in it as a list.

    Raises:
        ConfigError: it is not made of numbers, text, booleans, None, lists and mappings.
    """
    if isinstance(value, list | tuple):
        return [plain(name, item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(name, item) for key, item in value.items()}
    if isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
        raise _wrong_type(name, f"a number of at most {_MAX_INT_BITS} bits", value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise _wrong_type(name, "a number, text, True, False, None or a list of these", value)


def decode_literal(value: Any) -> Any:
    """Returns the Python literal that a text spells, such as ``"(640, 800)"`` or ``"1e-4"``.

    Anything else comes back unchanged. Detectron2 reads every text of a config so, and its own
    configs rely on it: YAML has no tuples, and reads ``1e-4`` as text.
    """
    if not isinstance(value, str) or len(value) > _MAX_LITERAL_LENGTH:
        return value
    try:
        with warnings.catch_warnings():
            # Text such as "'\d'" makes Python's parser warn.
            warnings.simplefilter("ignore")
            decoded = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return value
    scalar = (bool, int, float, str, type(None))
    return decoded if all(isinstance(leaf, scalar) for leaf in _leaves(decoded)) else value


def describe(value: Any) -> str:
    """A value as an error message shows it: its kind and a short form of it."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, bool):
        return repr(value)
    kind = {int: "the whole number", float: "the number", str: "the text"}.get(type(value))
    if isinstance(value, list | tuple):
        kind = "the list"
    if isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
        return "a very large number"
    try:
        shown = repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        shown = "of very large numbers"
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return f"{kind} {shown}" if kind else f"a {type(value).__name__}"


def _wrong_type(name: str, expected: str, value: Any) -> ConfigError:
    got = describe(value)
    return ConfigError(
        f"{name} must be {expected}, not {got}.", key=name, expected=expected, got=got
    )


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
