"""``${...}`` references of a dumped lazy config (OmegaConf's syntax), replaced by what they name.

``${a.b}`` counts from the root; each leading dot counts from one level further up, ``${.b}`` being
beside the value itself. Functions (``${env:...}``) are not part of this and are refused.
"""

from __future__ import annotations

import re
from typing import Any

from models.config.safe_yaml import MAX_DEPTH, MAX_NODES
from models.errors import ConfigError

_REFERENCE = re.compile(r"\$\{([^${}]*)\}")
_PATH = re.compile(r"(\.*)([\w-]+(?:\[\d+\])*(?:\.[\w-]+(?:\[\d+\])*)*)")

Path = tuple[str | int, ...]


def resolve(root: Any, path: Path, name: str) -> Any:
    """The value at ``path`` below ``root``, as a copy in which every reference is replaced.

    Args:
        root: mappings, lists and scalars.
        path: keys and indices.
        name: what error messages call the file.

    Raises:
        ConfigError: a reference names nothing, or itself, or is a function; or the values that
            references stand for are too many or too deep.
    """
    return _Resolver(root, name).value_at(path, ())


class _Resolver:
    def __init__(self, root: Any, name: str) -> None:
        self._root = root
        self._name = name
        self._budget = MAX_NODES

    def value_at(self, path: Path, open_paths: tuple[Path, ...]) -> Any:
        """What ``path`` leads to; a mapping on the way may itself be a reference."""
        value = self._root
        for i, key in enumerate(path):
            if isinstance(value, str) and _REFERENCE.fullmatch(value):
                value = self._reference(value, path[:i], open_paths)
            known = isinstance(value, dict) and key in value
            if not known and not (
                isinstance(value, list) and isinstance(key, int) and key < len(value)
            ):
                raise ConfigError(
                    f"{self._name}: a reference names {_dotted(path)}, which does not exist."
                )
            value = value[key]
        return self._resolved(value, path, open_paths)

    def _resolved(self, value: Any, path: Path, open_paths: tuple[Path, ...]) -> Any:
        self._budget -= 1
        if self._budget < 0:
            raise ConfigError(f"{self._name} stands for more than {MAX_NODES} values.")
        if len(path) + len(open_paths) > MAX_DEPTH:
            raise ConfigError(f"{self._name} is nested too deeply at {_dotted(path)}.")
        if isinstance(value, dict):
            return {k: self._resolved(v, (*path, k), open_paths) for k, v in value.items()}
        if isinstance(value, list):
            return [self._resolved(v, (*path, i), open_paths) for i, v in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        return self._reference(value, path, open_paths)

    def _reference(self, text: str, path: Path, open_paths: tuple[Path, ...]) -> Any:
        """The value of a text with references; one reference alone keeps its type."""
        if path in open_paths:
            raise ConfigError(f"{self._name}: {_dotted(path)} refers to itself.")
        open_paths = (*open_paths, path)

        def follow(match: re.Match[str]) -> Any:
            return self.value_at(self._target(match[1], path), open_paths)

        whole = _REFERENCE.fullmatch(text)
        if whole:
            return follow(whole)
        return _REFERENCE.sub(lambda match: str(follow(match)), text)

    def _target(self, reference: str, path: Path) -> Path:
        match = _PATH.fullmatch(reference.strip())
        if match is None:
            raise ConfigError(
                f"{self._name}: {_dotted(path)} holds ${{{reference}}}, which is no reference to "
                "another key; functions are not evaluated. Replace it by its value."
            )
        keys = tuple(
            int(key) if key.isdecimal() else key for key in re.findall(r"[\w-]+", match[2])
        )
        up = len(match[1])
        if up > len(path):
            raise ConfigError(
                f"{self._name}: {_dotted(path)} holds ${{{reference}}}, which leads out of the file."
            )
        return (*path[: len(path) - up], *keys) if up else keys


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
