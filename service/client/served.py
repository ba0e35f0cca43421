"""Models and what changes them, as typed values; ``raw`` has all that the server tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from service.client.parsing import as_known


@dataclass(frozen=True)
class Model:
    """A served model and its current version.

    Attributes:
        class_names: by class id.
        colors: ``"#rrggbb"`` by class id.
        outputs: out of instances, masks, keypoints, sem_seg, panoptic_seg, proposals.
        score_threshold: the least that can be asked for; below it nothing is computed.
        default_score: what holds for a request that names none.
        versions: state of each version, on disk or loaded.
        aliases: other names of versions.
        raw: all that the server tells.
    """

    name: str
    version: str
    state: str
    task: str
    architecture: str
    class_names: tuple[str, ...]
    colors: Mapping[int, str]
    outputs: tuple[str, ...]
    score_threshold: float
    default_score: float
    versions: Mapping[str, str]
    aliases: Mapping[str, str]
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Reload:
    """A reload or rollback: how it goes, or went.

    Attributes:
        state: running, succeeded or failed.
        outcome: swapped, rolled_back, unchanged, dry_run; or how far it came.
        version: that which answers now; None before it does.
        raw: all that the server tells.
    """

    id: str
    model: str
    state: str
    outcome: str | None
    version: str | None
    previous_version: str | None
    raw: Mapping[str, Any] = field(repr=False)


def read_models(response: httpx.Response) -> list[Model]:
    """The answer of ``GET /models``. Raises :class:`InvalidAnswer`."""
    return as_known(lambda: [_model(model) for model in response.json()["models"]])


def read_model(response: httpx.Response) -> Model:
    """The answer of ``GET /models/{name}``. Raises :class:`InvalidAnswer`."""
    return as_known(lambda: _model(response.json()))


def read_reload(response: httpx.Response) -> Reload:
    """The answer of a route that changes a model. Raises :class:`InvalidAnswer`."""
    return as_known(lambda: _reload(response.json()))


def _model(raw: Any) -> Model:
    classes, thresholds = raw["classes"], raw["thresholds"]
    return Model(
        name=raw["name"],
        version=raw["version"],
        state=raw["state"],
        task=raw["task"],
        architecture=raw["architecture"],
        class_names=tuple(one["name"] for one in classes),
        colors={one["id"]: one["color"] for one in classes},
        outputs=tuple(raw["outputs"]),
        score_threshold=thresholds["score"],
        default_score=thresholds["default_score"],
        versions={version["version"]: version["state"] for version in raw["versions"]},
        aliases=dict(raw["aliases"]),
        raw=raw,
    )


def _reload(raw: Any) -> Reload:
    return Reload(
        id=raw["id"],
        model=raw["model"],
        state=raw["state"],
        outcome=raw["outcome"],
        version=raw["version"],
        previous_version=raw["previous_version"],
        raw=raw,
    )
