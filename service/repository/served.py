"""A model that is served: its name, the versions that are loaded, and which of them answers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from service.errors import Conflict, Unavailable
from service.inference.traffic import TrafficShapes
from service.repository.gate import Figures
from service.repository.shelf import Shelf
from service.repository.version import ModelVersion, VersionState

if TYPE_CHECKING:
    from service.repository.shadow.shadowing import Shadow

CURRENT = "current"


@dataclass
class VersionStatus:
    """Where a version stands that this process has loaded, or tried to."""

    state: VersionState
    reason: str | None = None


class ServedModel:
    """A name and its versions.

    Attributes:
        name: the name.
        shelf: where its versions come from, and where the choice among them is kept.
        versions: those that are loaded and answer, by label.
        statuses: of those that were loaded, or failed to be, by label.
        lost: whether a swap in place has left no version that answers.
        parked: the previous version, where it is kept in memory for a rollback.
        traffic: what pictures it gets.
        shadow: the comparison with a candidate; None without.
        changing: held while a job loads, swaps or unloads a version.
    """

    def __init__(self, name: str, shelf: Shelf) -> None:
        self.name = name
        self.shelf = shelf
        self.versions: dict[str, ModelVersion] = {}
        self.statuses: dict[str, VersionStatus] = {}
        self.lost = False
        self.parked: ModelVersion | None = None
        self.traffic = TrafficShapes()
        self.shadow: Shadow | None = None
        self.changing = threading.Lock()
        self.gate_figures: Figures = WeakKeyDictionary()
        self._current: ModelVersion | None = None

    @property
    def current(self) -> ModelVersion:
        """The version that answers requests which name none. Raises :class:`Unavailable` before the first."""
        if self._current is None:
            raise Unavailable(
                "not_ready", f"No version of {self.name!r} is loaded yet. Try again soon."
            )
        return self._current

    @current.setter
    def current(self, version: ModelVersion) -> None:
        self._current = version
        self.lost = False

    @property
    def serves(self) -> bool:
        """Whether there is a current version."""
        return self._current is not None

    def resolve(self, wanted: str | None) -> ModelVersion:
        """The loaded version with this label or alias; the current one for None.

        Raises:
            NotFound: ``unknown_version``: there is no such version.
            Conflict: ``version_not_loaded``: it is there, but not loaded.
        """
        if wanted is None or wanted == CURRENT:
            return self.current
        label = self.shelf.record().aliases.get(wanted, wanted)
        version = self.versions.get(label) or self.versions.get(label := self.label_of(wanted))
        if version is not None:
            return version
        raise self.not_loaded(label)

    def not_loaded(self, label: str) -> Conflict:
        """The answer to a request for a version that is there, but not loaded."""
        return Conflict(
            "version_not_loaded",
            f"Version {label} of {self.name!r} is not loaded. Load it with POST "
            f"/models/{self.name}/versions/{label}/load, or make it current with POST /reload.",
            model=self.name,
            version=label,
            loaded=sorted(self.versions),
        )

    def label_of(self, word: str) -> str:
        """The label that a label, an alias or a word such as ``previous`` stands for; loaded or not.

        Raises:
            NotFound: ``unknown_version``.
        """
        if word == CURRENT:
            return self.current.label
        return word if word in self.versions else self.shelf.label_of(word)

    def is_needed(self, label: str) -> bool:
        """Whether a version stays loaded without being current: an alias points to it."""
        return label in self.shelf.record().aliases.values()

    def mark(self, label: str, state: VersionState, reason: str | None = None) -> None:
        """Note where a version stands."""
        self.statuses[label] = VersionStatus(state, reason)
