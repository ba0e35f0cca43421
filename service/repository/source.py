"""What a version is loaded from, and what loads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.zoo import ZooModel
from service.inference.detector import Detector
from service.repository.model_settings import ModelSettings


@dataclass(frozen=True)
class ModelSource:
    """What a model is made of: a config (a file, or the zoo's; none for torchvision's) and files.

    ``root`` confines what a client may name; None trusts the operator's paths. ``settings`` are those
    of its ``model.yaml``, if it has one.
    """

    config: Path | ZooModel | None
    weights: Path
    labels: Path | None = None
    root: Path | None = None
    settings: ModelSettings | None = None


class Loader(Protocol):
    """Makes a detector out of files; raises :class:`models.ModelError`."""

    def __call__(self, source: ModelSource) -> Detector:
        """Load."""
