"""The answer of ``/predict/batch``: a job and how far it is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.schemas.answers import Answer, ErrorDetail


class BatchAnswer(Answer):
    """A batch job."""

    id: str = Field(examples=["0c5b9b3e7c4f4f4f9d2b7c1a5e8d6f00"])
    state: Literal["running", "succeeded", "failed", "cancelled", "interrupted"] = Field(
        description="succeeded whatever the errors of single images; failed, with an error, and "
        "interrupted by the end of the server keep the results so far."
    )
    model: str
    total: int = Field(description="Images.")
    done: int = Field(description="Images that have their line in the result.")
    errors: int = Field(description="Of these, images with an error in the place of an answer.")
    parts_done: int = Field(
        description="Parts that are predicted: an image is one, or as many as it has tiles."
    )
    parts_total: int = Field(
        description="Parts known so far. With tiles this grows: an image counts as one until it is cut."
    )
    versions: dict[str, int] = Field(
        description="Images that each version has answered: there may be a swap while it runs."
    )
    eta_s: float | None = Field(
        description="Seconds that the rest may take, by its parts; null at the start."
    )
    created_at: str
    finished_at: str | None
    expires_at: str | None = Field(description="When the result is removed.")
    status: str = Field(description="Path of this answer.")
    result: str = Field(description="Path of the result.")
    error: ErrorDetail | None
