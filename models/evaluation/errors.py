"""What evaluation raises when a data set, a picture or an answer cannot be measured."""

from __future__ import annotations

from models.errors import ModelError


class EvaluationError(ModelError):
    """Nothing can be measured with this; the message says why and what to do."""
