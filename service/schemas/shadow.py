"""What crosses the wire for a shadow: the request for one, and its report."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.answers import Answer


class ShadowRequest(BaseModel):
    """Body of ``PUT /models/{m}/shadow``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(
        min_length=1,
        max_length=64,
        description="The candidate: a loaded version, or an alias of one.",
        examples=["3"],
    )
    share: float = Field(
        gt=0,
        le=1,
        strict=True,
        allow_inf_nan=False,
        description="How many of the current version's images the candidate gets too; 1 is all.",
        examples=[0.1],
    )


class ShadowImages(Answer):
    """Images of the current version since the shadow began."""

    offered: int = Field(
        description="That could be compared: requests that name a version and test-time augmentation "
        "are left out."
    )
    compared: int
    dropped: int = Field(
        description="In the share, but the model or its queue had no time for them."
    )
    failed: int = Field(description="On which the candidate failed; see last_error.")


class ShadowInstances(Answer):
    """Instances of all compared images; one object is two boxes of an IoU of at least 0.5."""

    matched: int = Field(description="Found by both, of one class.")
    class_changed: int = Field(description="Found by both, of different classes.")
    only_current: int
    only_candidate: int
    matched_share: float | None = Field(
        description="Matched ones of all that the current version found; null without any."
    )


class ScoreShift(Answer):
    """Scores of matched instances: candidate less current; null without any."""

    mean: float | None = Field(description="Above 0 the candidate is surer.")
    p50: float | None = Field(description="Half of the differences, either way, are no larger.")
    p95: float | None
    max: float | None


class ClassChange(Answer):
    """A class that the candidate took for another one."""

    before: str = Field(alias="from")
    after: str = Field(alias="to")
    count: int


class ClassCount(Answer):
    """Instances of a class."""

    class_name: str
    count: int


class ShadowSeconds(Answer):
    """Mean seconds of an image on the model; null without any."""

    current: float | None = Field(description="In batches: its share of the batch.")
    candidate: float | None = Field(description="Alone, since it runs one image at a time.")


class DifferentImage(Answer):
    """An image on which the versions differ."""

    request_id: str
    image: str = Field(description="Its name, as the client sent it.")
    matched: int
    class_changed: int
    only_current: int
    only_candidate: int
    largest_score_shift: float


class ShadowAnswer(Answer):
    """What a shadow has found so far.

    Boxes, scores and classes (by name) are compared, down to the larger of the request's threshold and of
    both models' own. What one version alone found counts only where the other's answer is complete: not
    below the lowest score of an answer that was cut at its maximum, not of classes that the request left
    out.
    """

    model: str
    current: str = Field(description="The version that answers.")
    candidate: str
    share: float
    since: str = Field(description="RFC 3339, UTC.")
    images: ShadowImages
    instances: ShadowInstances
    score_shift: ScoreShift
    mean_iou: float | None = Field(description="Of matched instances.")
    class_changes: list[ClassChange] = Field(description="The most frequent first.")
    other_class_changes: int = Field(description="Those that the table has no room for.")
    only_current: list[ClassCount] = Field(description="By class, the most frequent first.")
    only_candidate: list[ClassCount]
    inference_s: ShadowSeconds
    most_different: list[DifferentImage] = Field(
        description="At most ten, the most different first: by objects that are not the same, then by "
        "the largest score shift."
    )
    last_error: str | None = Field(description="What the candidate failed with last.")
