"""What is raised when a data set cannot be trained on."""

from __future__ import annotations

from models.errors import ModelError


class DataError(ModelError):
    """Nothing can be trained on this data; the message says why and what to do."""
