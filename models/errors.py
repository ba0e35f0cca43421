"""What the detection library raises when a file or a config cannot be used."""

from __future__ import annotations

from typing import Any


class ModelError(Exception):
    """A model cannot be built or loaded; the message says why and what to do.

    Attributes:
        details: the same facts as data (lists of tensor names, shapes, keys), JSON-serialisable.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class ConfigError(ModelError):
    """A config file cannot be read, is not safe, or holds a value of the wrong kind."""


class CheckpointError(ModelError):
    """A weights file cannot be read, is not safe, or does not fit the model."""


class PathNotAllowedError(ModelError):
    """A path leaves the folder that it must stay in."""
