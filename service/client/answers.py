"""Predictions as typed values; keys that this client does not know are left in ``raw``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.client.drawing import draw_prediction
from service.client.errors import DetserveError, Unprocessable
from service.client.images import ImageSource, open_picture
from service.client.instances import Instances
from service.client.parsing import as_known
from service.client.segmentation import SegmentMap


@dataclass(frozen=True)
class ModelVersion:
    """The version that answered.

    Attributes:
        keypoint_skeleton: pairs of keypoints to join by a line.
    """

    name: str
    version: str
    architecture: str
    weights_sha256: str
    keypoint_names: tuple[str, ...] = ()
    keypoint_skeleton: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Proposals:
    """P boxes of a proposal network, best first.

    Attributes:
        boxes: (P, 4) or, rotated, (P, 5) float32, as those of :class:`Instances`.
        objectness_logits: (P,) float32.
    """

    boxes: NDArray[np.float32]
    objectness_logits: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of one image.

    Attributes:
        name: of the image.
        width, height: of the image as a viewer shows it, in pixels; 0 if it could not be read.
        error: why this image was not answered while others of the request were; else None.
        model: the version that answered, one for all images of a request.
        timing_ms: of each stage, the longest among the images of the request; ``total`` is all of it.
        request_id: under which the server's log has the request.
        raw: this image's part of the answer, as it came.
    """

    name: str
    width: int
    height: int
    error: DetserveError | None
    model: ModelVersion
    timing_ms: Mapping[str, float]
    request_id: str
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def version(self) -> str:
        """The model's version that answered."""
        return self.model.version

    @cached_property
    def instances(self) -> Instances:
        """What was found.

        Raises:
            DetserveError: ``error`` if there is one; ``no_instances`` if this kind of model finds none.
        """
        return as_known(
            lambda: Instances.from_json(self._output("instances"), (self.height, self.width))
        )

    @cached_property
    def sem_seg(self) -> SegmentMap:
        """A class for every pixel. Raises as :attr:`instances`, with ``no_sem_seg``."""
        return self._map("sem_seg")

    @cached_property
    def panoptic_seg(self) -> SegmentMap:
        """A segment for every pixel. Raises as :attr:`instances`, with ``no_panoptic_seg``."""
        return self._map("panoptic_seg")

    @cached_property
    def proposals(self) -> Proposals:
        """Boxes of a proposal network. Raises as :attr:`instances`, with ``no_proposals``."""
        found = self._output("proposals")
        sides = 5 if found.get("box_mode") == "XYWHA_ABS" else 4
        return as_known(
            lambda: Proposals(
                np.array(found["proposal_boxes"], dtype=np.float32).reshape(-1, sides),
                np.array(found["objectness_logits"], dtype=np.float32),
            )
        )

    def has(self, output: str) -> bool:
        """Whether there is this output: instances, sem_seg, panoptic_seg or proposals."""
        return self.raw.get(output) is not None

    def draw(
        self,
        image: ImageSource,
        *,
        masks: bool = True,
        labels: bool = True,
        colors: Mapping[int, str] | None = None,
    ) -> Image.Image:
        """The picture with boxes, masks, names, keypoints and maps on it, as a new RGB image.

        Args:
            image: what was predicted on; a path or bytes are read again.
            colors: ``"#rrggbb"`` by class id, in place of the palette's; ``Model.colors`` are the
                server's.

        Raises:
            ValueError: the picture has another size.
            DetserveError: ``error`` if there is one.
        """
        if self.error is not None:
            raise self.error
        picture = open_picture(image)
        if picture.size != (self.width, self.height):
            raise ValueError(
                f"This is another picture: it has {picture.width} x {picture.height} pixels, and the "
                f"answer is about {self.width} x {self.height}."
            )
        return draw_prediction(
            picture,
            instances=self.instances if self.has("instances") else None,
            panoptic=self.panoptic_seg if self.has("panoptic_seg") else None,
            semantic=self.sem_seg if self.has("sem_seg") else None,
            skeleton=self.model.keypoint_skeleton,
            masks=masks,
            labels=labels,
            colors=colors or {},
        )

    def to_coco(
        self,
        image_id: int | str = 0,
        category_ids: Sequence[int] | Mapping[int, int] | Callable[[int], int] | None = None,
    ) -> list[dict[str, Any]]:
        """:meth:`Instances.to_coco` of the instances; of an image in error, it raises its error."""
        return self.instances.to_coco(image_id, category_ids)

    def _output(self, name: str) -> Any:
        if self.error is not None:
            raise self.error
        if not self.has(name):
            raise Unprocessable(
                f"The answer has no {name}: this kind of model gives none, or it was not asked for.",
                code=f"no_{name}",
                request_id=self.request_id,
            )
        return self.raw[name]

    def _map(self, name: str) -> SegmentMap:
        answer = self._output(name)
        size = (self.height, self.width)
        return as_known(lambda: SegmentMap.from_json(answer, size, panoptic=name == "panoptic_seg"))


def read_predictions(response: httpx.Response) -> list[Prediction]:
    """The answer of ``POST /predict``. Raises :class:`InvalidAnswer`."""
    return as_known(lambda: _predictions(response.json()))


def _predictions(answer: Any) -> list[Prediction]:
    model = answer["model"]
    version = ModelVersion(
        name=model["name"],
        version=model["version"],
        architecture=model["architecture"],
        weights_sha256=model["weights_sha256"],
        keypoint_names=tuple(model.get("keypoint_names") or ()),
        keypoint_skeleton=tuple((a, b) for a, b in model.get("keypoint_skeleton") or ()),
    )
    timing, request_id = dict(answer["timing_ms"]), str(answer["request_id"])
    return [_prediction(raw, version, timing, request_id) for raw in answer["predictions"]]


def _prediction(
    raw: Any, model: ModelVersion, timing_ms: Mapping[str, float], request_id: str
) -> Prediction:
    image, error = raw["image"], raw.get("error")
    return Prediction(
        name=image["name"],
        width=image.get("width") or 0,
        height=image.get("height") or 0,
        error=None if error is None else _image_error(error, request_id),
        model=model,
        timing_ms=timing_ms,
        request_id=request_id,
        raw=raw,
    )


def _image_error(error: Any, request_id: str) -> DetserveError:
    return DetserveError(
        error["message"], code=error["code"], request_id=request_id, details=error.get("details")
    )
