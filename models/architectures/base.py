"""What all architectures share: normalisation, batching, and the shape of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones import Backbone
from models.config import Config
from models.postprocessing import paste_instance_masks
from models.structures import ImageList

Inputs = Sequence[dict[str, Any]]
Outputs = list[dict[str, Any]]


class DetectionModel(nn.Module):
    """A whole model: a dict per image in, a dict per image out.

    An input has ``image``, a (C, H, W) tensor with pixels in 0 .. 255 and channels as
    ``input_format`` says, already resized, and optionally ``height`` and ``width``, the resolution
    that the answer is wanted in. An output has, as the architecture gives them: ``instances``,
    ``proposals`` (Instances), ``sem_seg`` ((K, height, width) scores) and ``panoptic_seg`` (a pair of
    a (height, width) int32 tensor of segment ids and a list of what they are).

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

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.pixel_mean.device

    @property
    def size_divisibility(self) -> int:
        """Batches are padded to multiples of this."""
        return self.backbone.size_divisibility

    def forward(self, batched_inputs: Inputs) -> Outputs:
        """Predict N images; ``pred_masks`` of instances are (R, height, width) bool."""
        if self.training:
            raise NotImplementedError("Training is not built yet; call model.eval() first.")
        outputs = self.predict(batched_inputs)
        for output in outputs:
            if "instances" in output:
                output["instances"] = paste_instance_masks(output["instances"])
        return outputs

    def predict(self, batched_inputs: Inputs) -> Outputs:
        """As :meth:`forward`, but ``pred_masks`` stay soft and small, (R, 1, M, M) over each box."""
        raise NotImplementedError

    def preprocess_image(self, batched_inputs: Inputs) -> ImageList:
        """Normalise, then pad (so that padding is 0, the mean colour) and batch the images."""
        images = [inputs["image"].to(self.device) for inputs in batched_inputs]
        normalized = [(image - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(normalized, self.size_divisibility)


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
