"""The config as code reads it: a frozen tree with Detectron2's keys as attributes."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import yaml

from models.config.defaults import DEFAULTS
from models.config.merging import merge_
from models.errors import ConfigError


class Config(Mapping[str, Any]):
    """One section of a config; the root is a section too.

    ``cfg.MODEL.ROI_HEADS.NUM_CLASSES``, ``cfg["MODEL"]["ROI_HEADS"]`` and
    ``cfg.get("MODEL.ROI_HEADS.NUM_CLASSES")`` read, and so do keys that Detectron2 does not know.
    Nothing writes: :meth:`override` returns a changed copy, and a list that was read is the
    reader's own.

    Args:
        values: the keys of this section; mappings become sections.
        path: dotted name of this section, "" at the root.
    """

    __slots__ = ("_path", "_values")

    _path: str
    _values: dict[str, Any]

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        object.__setattr__(self, "_path", path)
        sections = {
            key: Config(value, self._name(key)) if isinstance(value, Mapping) else _copied(value)
            for key, value in values.items()
        }
        object.__setattr__(self, "_values", sections)

    def __getattr__(self, key: str) -> Any:
        """Raises AttributeError with the full dotted name and close matches."""
        if key.startswith("_"):  # copy, pickle and friends ask for protocols
            raise AttributeError(key)
        try:
            return self[key]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __getitem__(self, key: str) -> Any:
        """Reads one key, or a dotted path of keys.

        Raises:
            KeyError: there is no such key; names it in full, with close matches.
        """
        node: Any = self
        for part in key.split("."):
            if not isinstance(node, Config) or part not in node._values:
                raise KeyError(_no_such_key(self._name(key), part, node))
            node = node._values[part]
        return _copied(node)

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]  # any object may be asked for
        except (KeyError, AttributeError):
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Config) else NotImplemented

    # Sections hold lists.
    __hash__ = None  # type: ignore[assignment]  # Python's way to say unhashable

    def __setattr__(self, key: str, value: Any) -> NoReturn:
        raise AttributeError(
            f"A config is frozen: use cfg.override({self._name(key)!r}, ...), "
            "which returns a changed copy."
        )

    def __delattr__(self, key: str) -> NoReturn:
        raise AttributeError(f"A config is frozen: {self._name(key)} cannot be deleted.")

    def __reduce__(self) -> tuple[type[Config], tuple[dict[str, Any], str]]:
        return Config, (self.to_dict(), self._path)

    def __repr__(self) -> str:
        name = f"{self._path}: " if self._path else ""
        return f"Config({name}{self.to_dict()!r})"

    def get(self, key: str, default: Any = None) -> Any:
        """Reads a key or a dotted path of keys; ``default`` where there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def override(self, key: str, value: Any) -> Config:
        """Returns a copy in which ``key`` (dotted) has ``value``.

        Raises:
            ConfigError: there is no such key, or the value is of another type than its default.
        """
        if key not in self:
            try:
                self[key]
            except KeyError as error:
                raise ConfigError(error.args[0], key=self._name(key)) from None
        changes: Any = value
        for part in reversed(key.split(".")):
            changes = {part: changes}
        values = self.to_dict()
        merge_(values, changes, _defaults_of(self._path), self._path)
        return Config(values, self._path)

    @property
    def unknown_keys(self) -> tuple[str, ...]:
        """Full dotted names of the keys that Detectron2 itself does not have, sorted."""
        return tuple(sorted(self._unknown(_defaults_of(self._path))))

    def to_dict(self) -> dict[str, Any]:
        """A copy as plain dicts, with tuples and lists as Detectron2 has them."""
        return {
            key: value.to_dict() if isinstance(value, Config) else _copied(value)
            for key, value in self._values.items()
        }

    def dump(self) -> str:
        """The config as YAML that Detectron2 reads: lists and scalars only, no tags, no aliases."""
        return yaml.dump(_as_lists(self.to_dict()), Dumper=_PlainDumper, sort_keys=True)

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _unknown(self, defaults: Mapping[str, Any]) -> Iterator[str]:
        for key, value in self._values.items():
            known = defaults.get(key)
            if isinstance(value, Config) and (value._values or key in defaults):
                yield from value._unknown(known if isinstance(known, Mapping) else {})
            elif key not in defaults:
                yield self._name(key)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _defaults_of(path: str) -> Mapping[str, Any]:
    node: Mapping[str, Any] = DEFAULTS
    for part in path.split(".") if path else ():
        below = node.get(part)
        if not isinstance(below, Mapping):
            return {}
        node = below
    return node


def _copied(value: Any) -> Any:
    return copy.deepcopy(value) if isinstance(value, list) else value


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_lists(item) for item in value]
    return value


def _no_such_key(name: str, part: str, node: Any) -> str:
    if not isinstance(node, Config):
        return f"The config has no key {name}: what comes before {part} is a value, not a section."
    close = difflib.get_close_matches(part, list(node), n=3)
    matches = " or ".join(node._name(match) for match in close)
    return f"The config has no key {name}." + (f" Did you mean {matches}?" if close else "")
