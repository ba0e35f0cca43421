"""The real detector: a :class:`models.Predictor` behind the service's interface."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Boxes, Instances, Predictor
from models.architectures.base import DetectionModel
from models.execution.cuda_graphs import CudaGraphs
from models.execution.cuda_warm_up import common_sizes, record_shapes
from models.facts import facts_of
from models.finite import first_not_finite
from models.metadata import DatasetMetadata
from models.predictor import Preprocessing
from models.structures import ImageList
from models.test_time_augmentation import with_tta
from models.transfer import to_host
from models.transforms import resized_size
from models.tta_views import DatasetMapperTTA
from service.errors import ApiError
from service.inference.describing import describe, flip_indices
from service.inference.detector import (
    ModelCall,
    ModelDescription,
    Prediction,
    PreparedImage,
    Views,
    at_once,
)
from service.repository.labels import ClassNames
from service.repository.model_settings import ModelSettings

logger = logging.getLogger(__name__)

MAX_DETECTIONS_LIMIT = 1000
"""Instances that a request may ask a model to keep, where nobody says otherwise."""

LARGEST_SHRINK_ON_DEVICE = 8
"""A picture that shrinks by more is resized by the host: its upload would cost more than that saves,
and the GPU's antialiasing has a bound on it."""


class TorchDetector:
    """A model resident on its device."""

    def __init__(
        self,
        predictor: Predictor,
        class_names: ClassNames,
        *,
        config_name: str,
        weights_file: Path,
        metadata: DatasetMetadata | None = None,
        settings: ModelSettings | None = None,
        max_detections_limit: int = MAX_DETECTIONS_LIMIT,
    ) -> None:
        self._predictor: Predictor | None = predictor
        self._preprocess = predictor.preprocess
        facts = facts_of(predictor.model, predictor.cfg)
        self._keypoint_flip = flip_indices(metadata, facts)
        self._device = predictor.device
        self._on_gpu = self._device.type == "cuda"
        self._device_resizes = self._on_gpu and _can_resize(predictor)
        self._graphs: CudaGraphs | None = None
        self._recorded_sizes: tuple[tuple[int, int], ...] | None = None
        self._parked = False
        self._description = describe(
            predictor,
            facts,
            class_names,
            config_name=config_name,
            weights_name=weights_file.name,
            metadata=metadata,
            settings=settings or ModelSettings(),
            max_detections_limit=max_detections_limit,
        )

    @property
    def description(self) -> ModelDescription:
        """What the model is."""
        return self._description

    @property
    def recipe(self) -> Hashable:
        """Channel order, resize and padding, views, whether proposals come with an image, and what a
        request's thresholds and classes mean."""
        model = self._description
        return (
            self._preprocess,
            self._device_resizes,
            model.tta,
            model.takes_proposals,
            model.class_names,
            model.score_threshold,
            model.default_score,
            model.max_detections,
            model.default_most,
            model.takes_overrides,
            model.outputs,
        )

    @property
    def predictor(self) -> Predictor:
        """The model with its pre-processing; RuntimeError once closed."""
        if self._predictor is None:
            raise RuntimeError("This detector is closed.")
        return self._predictor

    def prepare(
        self,
        pixels: NDArray[np.uint8],
        *,
        tta: Views | None = None,
        proposals: NDArray[np.float32] | None = None,
    ) -> PreparedImage:
        """Resize and reorder the channels, on the calling thread; works on a closed detector too."""
        height, width = pixels.shape[:2]
        resize_to = None if tta is not None else self._size_on_device(height, width)
        if resize_to is None:
            tensor = self._preprocess(pixels)
            size = (tensor.shape[-2], tensor.shape[-1])
            padded_size = self._preprocess.padded_size(tensor)
        else:
            # As PyTorch wants memory: writable by convention, without negative strides.
            picture = np.require(pixels, requirements=["C", "W"])
            tensor = torch.from_numpy(picture).permute(2, 0, 1)
            size = resize_to
            padded_size = ImageList.padded_size([size], self._preprocess.size_divisibility)
        views: tuple[dict[str, Any], ...] = ()
        if tta is not None:
            mapper = DatasetMapperTTA(tta.sizes, tta.max_size, tta.flip)
            views = tuple(mapper({"image": tensor, "height": height, "width": width}))
        boxes = None
        if proposals is not None:
            x, y = size[1] / width, size[0] / height
            boxes = torch.from_numpy(proposals) * torch.tensor([x, y, x, y])
        return PreparedImage(
            tensor=tensor.pin_memory() if self._on_gpu else tensor,
            height=height,
            width=width,
            padded_size=padded_size,
            recipe=self.recipe,
            views=views,
            proposals=boxes,
            resize_to=resize_to,
        )

    def _size_on_device(self, height: int, width: int) -> tuple[int, int] | None:
        """What the device resizes a picture to; None when the host does it."""
        preprocess = self._preprocess
        if not self._device_resizes or not isinstance(preprocess, Preprocessing):
            return None
        size = resized_size(height, width, preprocess.min_size, preprocess.max_size)
        shrink = max(height / size[0], width / size[1])
        return size if shrink <= LARGEST_SHRINK_ON_DEVICE else None

    def warm_up(
        self, sizes: Sequence[tuple[int, int]] | None = None, *, call: ModelCall = at_once
    ) -> None:
        """Record the shapes that will come most as CUDA graphs; nothing on a CPU.

        Args:
            sizes: padded (height, width) to record; None: those of the common aspect ratios.
            call: takes each of them to the model's thread.
        """
        predictor = self.predictor
        preprocess = predictor.preprocess
        if (
            not self._on_gpu
            or predictor.plan.mode == "reference"
            or not isinstance(predictor.model, DetectionModel)
            or not isinstance(preprocess, Preprocessing)
            or self._description.takes_proposals
        ):
            return
        channels_last = predictor.plan.memory_format == "channels_last"
        if sizes is None:
            sizes = common_sizes(
                preprocess.min_size, preprocess.max_size, preprocess.size_divisibility
            )
        self._recorded_sizes = tuple(sizes)
        self._graphs = record_shapes(
            predictor.model,
            sizes,
            max_detections=self._description.max_detections,
            memory_format=torch.channels_last if channels_last else torch.contiguous_format,
            call=call,
        )
        predictor.plan = replace(predictor.plan, cuda_graphs=len(self._graphs))
        execution = predictor.plan.to_dict()
        report = self._description.load_report | {"execution": execution}
        self._description = replace(self._description, execution=execution, load_report=report)

    def not_finite(self) -> str | None:
        """See :func:`models.finite.first_not_finite`."""
        return first_not_finite(self.predictor.model)

    def infer(
        self, batch: Sequence[PreparedImage], pause: Callable[[], None] | None = None
    ) -> list[Prediction]:
        """Run one batch; boxes come back in pixels of each picture, masks soft and small."""
        plain = [image for image in batch if not image.views]
        with torch.inference_mode():
            of_plain = iter(self._predict(plain) if plain else [])
            outputs = [
                _reduced(self._predict_views(image, pause) if image.views else next(of_plain))
                for image in batch
            ]
            return [_to_prediction(output) for output in to_host(outputs)]

    def _predict(self, images: Sequence[PreparedImage]) -> list[dict[str, Any]]:
        inputs = []
        for image in images:
            one = {
                "image": image.tensor,
                "height": image.height,
                "width": image.width,
                "wanted": image.wanted,
            }
            if image.resize_to is not None:
                one |= {"resize_to": image.resize_to, "channel_order": "RGB"}
            if image.proposals is not None:
                one["proposals"] = Instances(
                    image.size,
                    proposal_boxes=Boxes(image.proposals),
                    objectness_logits=torch.zeros(len(image.proposals)),
                )
            inputs.append(one)
        model = self.predictor.model
        # A plug-in architecture may answer in Detectron2's way only, with whole masks.
        outputs: list[dict[str, Any]] = getattr(model, "predict", model)(inputs)
        return outputs

    def _predict_views(
        self, image: PreparedImage, pause: Callable[[], None] | None
    ) -> dict[str, Any]:
        """Test-time augmentation of one image, whose views are made already."""
        model = with_tta(
            self.predictor.cfg,
            self.predictor.model,
            tta_mapper=lambda inputs: inputs["views"],
            keypoint_flip=self._keypoint_flip,
            between=pause,
        )
        return model.predict([{"views": list(image.views), "wanted": image.wanted}])[0]

    @property
    def nbytes(self) -> int:
        """Bytes of its parameters and buffers as they run, wherever they are; 0 once closed."""
        predictor = self._predictor
        if predictor is None:
            return 0
        tensors = [*predictor.model.parameters(), *predictor.model.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def park(self) -> int:
        """Leave a GPU for host memory; how many bytes of weights that gave back to the device.

        On a CPU the model stays where it is and runs on. On the model's thread, with no requests left.
        """
        model = self.predictor.model
        if not self._on_gpu:
            return 0
        freed = 0 if self._parked else self.nbytes
        self._parked = True
        self._drop_graphs()  # they read and write the device's memory by its addresses
        model.to("cpu")
        self._release()
        return freed

    def unpark(self, *, call: ModelCall) -> None:
        """Come back to the device and record again what was recorded there.

        A model that does not fit any more stays parked, and what failed is raised.

        Args:
            call: takes each part of the work to the model's thread.
        """
        if not self._parked:
            return
        try:
            call(self._return)
            if self._recorded_sizes is not None:
                self.warm_up(self._recorded_sizes, call=call)
        except BaseException:  # whatever it was, half a model must not stay on the device
            with contextlib.suppress(ApiError):  # the thread may have ended, which is what failed
                call(self.park)
            raise

    def _return(self) -> None:
        self.predictor.model.to(self._device)
        self._parked = False

    def close(self) -> int:
        """Drop the model and give its memory back; how many bytes of the device that were."""
        freed = 0 if self._parked else self.nbytes
        self._drop_graphs()
        self._predictor = None
        self._release()
        return freed

    def _drop_graphs(self) -> None:
        if self._graphs is not None:
            self._graphs.remove()
            self._graphs = None

    def _release(self) -> None:
        """Give memory that nothing refers to any more back to the device."""
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()


def _can_resize(predictor: Predictor) -> bool:
    """Whether the model resizes pictures as its plan wants it."""
    return (
        predictor.plan.resize == "fast"
        and isinstance(predictor.preprocess, Preprocessing)
        and isinstance(predictor.model, DetectionModel)
    )


def _reduced(output: dict[str, Any]) -> dict[str, Any]:
    """Of a semantic map only the best class of each pixel: the rest need not leave the device."""
    sem_seg: Tensor | None = output.get("sem_seg")
    if sem_seg is None:
        return output
    return {**output, "sem_seg": sem_seg.argmax(dim=0).to(torch.int16)}


def _to_prediction(output: dict[str, Any]) -> Prediction:
    """One image's output; fields that :func:`to_host` does not know come to the CPU one by one."""
    instances, proposals = output.get("instances"), output.get("proposals")
    return Prediction(
        instances=instances.to("cpu") if instances is not None else None,
        proposals=proposals.to("cpu") if proposals is not None else None,
        sem_seg=output.get("sem_seg"),
        panoptic_seg=output.get("panoptic_seg"),
        found_scores=output.get("found_scores"),
    )
