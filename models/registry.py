"""Registries: where a user plugs in a component by the name that a config gives it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from models.errors import ConfigError

T = TypeVar("T", bound=Callable[..., Any])


class Registry:
    """Named components of one kind.

    ``@REGISTRY.register()`` above a class or function adds it under its own name; a config key
    then selects it. What a registered component is called with stands beside each registry.
    """

    def __init__(self, name: str, key: str) -> None:
        """``key`` is the config key that selects a component."""
        self.name = name
        self.key = key
        self._components: dict[str, Callable[..., Any]] = {}

    def register(self) -> Callable[[T], T]:
        """A decorator that adds a component. A name can be taken only once."""
        return self.add

    def add(self, component: T) -> T:
        """Add ``component`` under its own name and return it."""
        name = component.__name__
        if name in self._components:
            raise ValueError(f"{name!r} is already registered in {self.name}.")
        self._components[name] = component
        return component

    def get(self, name: str) -> Callable[..., Any]:
        """The component called ``name``; :class:`ConfigError` with the known names if there is none."""
        try:
            return self._components[name]
        except KeyError:
            known = sorted(self._components)
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(
                f"{self.key} is {name!r}, which is not in the {self.name} registry "
                f"(known: {', '.join(known) or 'none'}).{hint} A component of your own must be "
                "registered first.",
                key=self.key,
                name=name,
                known=known,
            ) from None

    def __contains__(self, name: str) -> bool:
        return name in self._components

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __repr__(self) -> str:
        return f"Registry({self.name}: {', '.join(self._components)})"
