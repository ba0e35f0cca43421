"""Why a change of a model was refused: whatever went wrong, as an error that may be told to a client."""

from __future__ import annotations

import logging

import torch

from models.errors import ModelError, PathNotAllowedError
from service.errors import ApiError, Forbidden, Unprocessable

logger = logging.getLogger(__name__)


def refusal(error: Exception) -> ApiError:
    """Why a change was refused, for the client; what we did not foresee is for the log alone."""
    if isinstance(error, ApiError):
        return error
    if _is_out_of_memory(error):
        return Unprocessable(
            "not_enough_memory",
            "The memory ran out while the version was loaded; the old one goes on. Reload with "
            "strategy=in_place, or use a larger machine.",
            advice="in_place",
        )
    if isinstance(error, PathNotAllowedError):
        return Forbidden("path_outside_root", error.message, **error.details)
    if isinstance(error, ModelError):
        return Unprocessable("model_refused", error.message, **error.details)
    logger.error("a version failed unexpectedly", exc_info=error)
    return Unprocessable(
        "model_refused", "The model could not be loaded; the server's log has the reason."
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether that is behind ``error``, which may be what we made of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, torch.OutOfMemoryError | MemoryError):
            return True
        cause = cause.__cause__ or (cause.__context__ if isinstance(cause, ModelError) else None)
    return False
