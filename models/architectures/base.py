"""What all architectures share: normalisation, batching, and the shape of their answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from models.backbones import Backbone
from models.config import Config
from models.postprocessing import paste_instance_masks
from models.structures import ImageList, Instances
from models.transfer import Uploader
from models.wanted import wanted_of

Inputs = Sequence[dict[str, Any]]
Outputs = list[dict[str, Any]]
Losses = dict[str, Tensor]
"""Scalars by name (``loss_cls``); what training minimises is their sum."""


class DetectionModel(nn.Module):
    """A whole model: a dict per image in, a dict per image out; in training, losses out.

    An input has ``image``, a (C, H, W) tensor with pixels in 0 .. 255 and channels as
    ``input_format`` says, already resized, and optionally ``height`` and ``width``, the resolution
    that the answer is wanted in. The model's device can do the rest of the preparation: with
    ``resize_to``, a (height, width), a uint8 ``image`` is resized first, and with ``channel_order``
    its channels are known to be so. An output has, as the architecture gives them: ``instances``,
    ``proposals`` (Instances), ``sem_seg`` ((K, height, width) scores) and ``panoptic_seg`` (a pair of
    a (height, width) int32 tensor of segment ids and a list of what they are).

    In training an input also has what is to be learnt: ``instances`` (Instances of the size of
    ``image``, with ``gt_boxes``, ``gt_classes`` (G,) int64, and as the data has them ``gt_masks`` and
    ``gt_keypoints``; G may be 0), or ``sem_seg`` ((H, W) int64), as the architecture needs it.

    Attributes:
        training_figures: what is worth logging of the last training step besides its losses
            (samples of the foreground, accuracies), by name: numbers, or scalars without gradient.

    Args:
        backbone: image batch -> feature maps.
        pixel_mean, pixel_std: per channel, in the order of ``input_format``.
        input_format: what the channels of the input are, "BGR" or "RGB".
        vis_period: kept for compatibility.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ) -> None:
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError("pixel_mean and pixel_std have different lengths.")
        self.backbone = backbone
        self.input_format = input_format
        self.vis_period = vis_period
        # Not persistent: they come from the config, checkpoints do not hold them.
        self.register_buffer(
            "pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False
        )
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        self._uploader: Uploader | None = None
        self.training_figures: dict[str, float | Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.pixel_mean.device

    @property
    def size_divisibility(self) -> int:
        """Batches are padded to multiples of this."""
        return self.backbone.size_divisibility

    @property
    def takes_overrides(self) -> bool:
        """Whether an image may have another NMS threshold and cap than the model's own."""
        return False

    def overrides(self, batched_inputs: Inputs) -> dict[str, Any]:
        """Keywords for the parts that choose boxes: ``wanted``, or none where no image overrides anything.

        Raises:
            ValueError: an image does, and the model has parts that do not take it.
        """
        wanted = [wanted_of(inputs) for inputs in batched_inputs]
        if not any(one.overrides for one in wanted):
            return {}
        if not self.takes_overrides:
            raise ValueError(
                f"This {type(self).__name__} has parts that choose boxes in a way of their own: it takes "
                "neither nms_threshold nor detections_per_image for one image."
            )
        return {"wanted": wanted}

    def forward(self, batched_inputs: Inputs) -> Outputs | Losses:
        """Predict N images; ``pred_masks`` of instances are (R, height, width) bool.

        In training: what :meth:`losses` gives.
        """
        if self.training:
            self.training_figures = {}
            return self.losses(batched_inputs)
        outputs = self.predict(batched_inputs)
        for output in outputs:
            if "instances" in output:
                output["instances"] = paste_instance_masks(output["instances"].to(self.device))
        return outputs

    def predict(self, batched_inputs: Inputs) -> Outputs:
        """As :meth:`forward`, but ``pred_masks`` stay soft and small, (R, 1, M, M) over each box.

        Where the model runs on a GPU, instances and proposals come on the host all the same.
        """
        raise NotImplementedError

    def losses(self, batched_inputs: Inputs) -> Losses:
        """The losses of N images, scalars by name, for :meth:`torch.Tensor.backward`.

        They reach every parameter that learns even where there is nothing to learn from: an image
        without objects costs what is found in it, and its other losses are zeros.

        Raises:
            NotImplementedError: this architecture is not trained here.
            ValueError: an image comes without its ground truth.
            FloatingPointError: the network's numbers are no longer finite.
        """
        raise NotImplementedError(
            f"A {type(self).__name__} is not trained here; call model.eval() to predict with it."
        )

    def training_state(self) -> dict[str, float]:
        """What training moves besides the state dict, by name: a resumed training needs it."""
        return {}

    def load_training_state(self, state: Mapping[str, float]) -> None:
        """Take up what :meth:`training_state` gave.

        Raises:
            ValueError: the state has other names than this model's.
        """
        if state:
            raise ValueError(
                f"A {type(self).__name__} has no state of training that is called "
                f"{', '.join(sorted(state))}: the checkpoint is of another architecture."
            )

    def ground_truth(
        self, batched_inputs: Inputs, num_classes: int | None = None
    ) -> list[Instances]:
        """Per image its objects, on the model's device.

        Raises:
            ValueError: an image has no ground truth, or one that belongs to an image of another
                size, or with a class that is not one of ``num_classes``.
        """
        truths = []
        for i, inputs in enumerate(batched_inputs):
            if "instances" not in inputs:
                raise ValueError(
                    f"Image {i} has no ground truth to train on: give it under 'instances', with "
                    "gt_boxes and gt_classes; an image without objects has empty ones."
                )
            truth: Instances = inputs["instances"]
            height, width = inputs["image"].shape[-2:]
            if tuple(truth.image_size) != (height, width):
                raise ValueError(
                    f"Image {i} has {height}x{width} pixels, and its ground truth is of an image of "
                    f"{truth.image_size[0]}x{truth.image_size[1]}: resize both alike."
                )
            if num_classes is not None and len(truth) > 0:
                _check_classes(truth.gt_classes, num_classes, i)
            truths.append(truth.to(self.device))
        return truths

    def note_figures(self, *parts: Any) -> None:
        """Add to ``training_figures`` those that parts of the model left in theirs."""
        for part in parts:
            # A part of somebody's own need not keep any.
            self.training_figures |= getattr(part, "training_figures", {})

    def preprocess_image(self, batched_inputs: Inputs) -> ImageList:
        """Resize what is to be, normalise, then pad (so that padding is 0, the mean colour) and batch."""
        pictures = self._on_device([inputs["image"] for inputs in batched_inputs])
        images = [
            self._as_trained(picture, inputs)
            for picture, inputs in zip(pictures, batched_inputs, strict=True)
        ]
        normalized = [(image - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(normalized, self.size_divisibility)

    def _on_device(self, pictures: Sequence[Tensor]) -> Iterable[Tensor]:
        if self.device.type != "cuda":
            return [picture.to(self.device) for picture in pictures]
        if self._uploader is None or self._uploader.device != self.device:
            self._uploader = Uploader(self.device)
        return self._uploader(pictures)

    def _as_trained(self, picture: Tensor, inputs: dict[str, Any]) -> Tensor:
        """The picture in the size and the order of channels that the network wants."""
        size: tuple[int, int] | None = inputs.get("resize_to")
        if size is not None and tuple(picture.shape[-2:]) != tuple(size):
            picture = tv.resize(picture, list(size), antialias=True)
        if inputs.get("channel_order", self.input_format) != self.input_format:
            picture = picture.flip(0)
        return picture


def _check_classes(gt_classes: Tensor, num_classes: int, image: int) -> None:
    low, high = int(gt_classes.min()), int(gt_classes.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"Image {image} has an object of class {low if low < 0 else high}, and the model has "
            f"{num_classes} classes, 0 to {num_classes - 1}: number the data's categories by the "
            "model's class names, or set NUM_CLASSES of its config."
        )


def normalization_from_config(cfg: Config) -> dict[str, Any]:
    """The keywords of :class:`DetectionModel` that come from the config, the backbone aside."""
    return {
        "pixel_mean": [float(v) for v in cfg.MODEL.PIXEL_MEAN],
        "pixel_std": [float(v) for v in cfg.MODEL.PIXEL_STD],
        "input_format": cfg.INPUT.FORMAT,
        "vis_period": cfg.VIS_PERIOD,
    }


def output_sizes(batched_inputs: Inputs, images: ImageList) -> list[tuple[int, int]]:
    """Per image the (height, width) that its answer is wanted in."""
    return [
        (int(inputs.get("height", size[0])), int(inputs.get("width", size[1])))
        for inputs, size in zip(batched_inputs, images.image_sizes, strict=True)
    ]
