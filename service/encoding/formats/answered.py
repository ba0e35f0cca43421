"""What a format is made of: the answers to one request's images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from service.inference.detector import ModelDescription
from service.inference.pipeline import ImageAnswer
from service.repository.version import ModelVersion


@dataclass(frozen=True)
class Answered:
    """The images of one request, answered.

    Attributes:
        request_id: of the request.
        version: that answered all of them.
        answers: in the order of the request.
        total_s: seconds that the whole request took.
    """

    request_id: str
    version: ModelVersion
    answers: Sequence[ImageAnswer]
    total_s: float

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage; images go through a stage at the same time, so each is that of the slowest."""
        answers = self.answers
        return {
            "decode": max(answer.decode_s for answer in answers),
            "queue": max(answer.queue_s for answer in answers),
            "inference": max(answer.inference_s for answer in answers),
            "encode": max(answer.encode_s for answer in answers),
            "total": self.total_s,
        }

    @property
    def model(self) -> ModelDescription:
        """What the model is."""
        return self.version.detector.description

    def instances(self) -> Iterator[tuple[int, ImageAnswer, dict[str, Any]]]:
        """Per image that could be used: its place in the request, its answer, and its instances as
        :func:`service.encoding.instances.encode_instances` makes them."""
        for index, answer in enumerate(self.answers):
            # A model that finds none may have taken over since the request was checked.
            found = (answer.outputs or {}).get("instances")
            if found is not None:
                yield index, answer, found

    @property
    def failures(self) -> str:
        """Images that could not be used, for a header: ``1=invalid_image, 4=image_too_large``, counted
        from 0; empty if there are none."""
        return ", ".join(
            f"{index}={answer.error.code}"
            for index, answer in enumerate(self.answers)
            if answer.error is not None
        )
