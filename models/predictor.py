"""A detector for notebooks and for the service: RGB pictures in, instances out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from models.architectures import build_model
from models.architectures.torchvision_adapter import torchvision_config
from models.architectures.torchvision_transform import TorchvisionPreprocessing
from models.checkpoints import LoadReport, load_checkpoint
from models.config import Config, load_config
from models.config.loading import with_overrides
from models.device import resolve_device, use_exact_float32
from models.errors import ConfigError
from models.execution import ExecutionPlan, Mode, Resize, apply_mode_, probe_inputs
from models.structures import ImageList, Instances
from models.transforms import resize_image, resize_image_fast, resized_size

ChannelOrder = Literal["RGB", "BGR"]
PROBE_MIN_SIZE = 320
"""Shorter side of the pictures that a mode is tried on: enough for a difference to show."""


@dataclass(frozen=True)
class Preprocessing:
    """From an RGB picture to what a model takes; equal objects prepare equally.

    Attributes:
        input_format: channel order of the model, "RGB" or "BGR".
        min_size, max_size: see :func:`models.transforms.resized_size`.
        size_divisibility: batches are padded to multiples of this; 0 is no padding.
        resize: "pil", bit-equal to Detectron2's, or "fast", see
            :func:`models.transforms.resize_image_fast`.
    """

    input_format: str
    min_size: int
    max_size: int
    size_divisibility: int
    resize: Literal["pil", "fast"] = "pil"

    def __call__(self, image: NDArray[np.uint8], channel_order: ChannelOrder = "RGB") -> Tensor:
        """(H, W, 3) uint8 -> (3, H', W') uint8, resized and in the model's channel order.

        The tensor's memory stays in the order of a picture, channels last.
        """
        height, width = image.shape[:2]
        size = resized_size(height, width, self.min_size, self.max_size)
        resized = (resize_image if self.resize == "pil" else resize_image_fast)(image, *size)
        if channel_order != self.input_format:
            ordered = np.empty(resized.shape, dtype=np.uint8)
            for channel in range(3):  # four times faster than one copy of the reversed view
                ordered[:, :, channel] = resized[:, :, 2 - channel]
        elif resized is image or not resized.flags.writeable:
            # The caller's picture is not for the model to change, nor may a tensor be read-only.
            ordered = np.array(resized, order="C")
        else:
            ordered = resized
        return torch.from_numpy(ordered).permute(2, 0, 1)

    def padded_size(self, image: Tensor) -> tuple[int, int]:
        """(height, width) of the batch that a prepared image runs in when it is alone."""
        size = (image.shape[-2], image.shape[-1])
        return ImageList.padded_size([size], self.size_divisibility)


class Predictor:
    """A model with everything around it: channel order, resize, batch, post-processing.

    Call it with one picture. Pictures are RGB unless ``channel_order="BGR"`` says otherwise (OpenCV
    reads BGR; confusing the two costs accuracy without any error).

    Attributes:
        model: the model, in evaluation mode on its device.
        cfg: the config that it was built from.
        preprocess: what turns a picture into the model's input.
        report: what was loaded, None for a model without weights.
        plan: how the model runs, and how far that changes answers.

    Args:
        model: with its weights, on its device; ``mode`` changes it in place.
        cfg: the config that it was built from.
        report: what was loaded.
        mode: "reference", "exact" or "fast"; see :class:`models.execution.ExecutionPlan`. Any but
            the first folds norms, so that the model's state dict is no checkpoint any more.
        resize: "auto", "pil" or "fast"; see there.
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: Config,
        report: LoadReport | None = None,
        *,
        mode: Mode = "reference",
        resize: Literal["auto", "pil", "fast"] = "auto",
    ) -> None:
        if cfg.INPUT.FORMAT not in {"RGB", "BGR"}:
            raise ConfigError(
                f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}; RGB and BGR can be served.",
                key="INPUT.FORMAT",
            )
        model.eval()
        self.model = cast(Any, model)  # a meta-architecture: more than nn.Module says
        self.cfg = cfg
        own: TorchvisionPreprocessing | None = getattr(model, "preprocessing", None)
        self.preprocess: Preprocessing | TorchvisionPreprocessing = own or Preprocessing(
            input_format=cfg.INPUT.FORMAT,
            min_size=cfg.INPUT.MIN_SIZE_TEST,
            max_size=cfg.INPUT.MAX_SIZE_TEST,
            size_divisibility=_size_divisibility(model),
        )
        self.report = report
        self.plan: ExecutionPlan = apply_mode_(
            self.model, mode, lambda how: probe_inputs(model, self._resizing(how)), resize=resize
        )
        if isinstance(self.preprocess, Preprocessing):
            self.preprocess = replace(self.preprocess, resize=self.plan.resize)

    def _resizing(self, how: Resize) -> Preprocessing | TorchvisionPreprocessing:
        """The preprocessing of probe pictures, which are small."""
        if not isinstance(self.preprocess, Preprocessing):
            return self.preprocess
        small = min(self.preprocess.min_size, PROBE_MIN_SIZE)
        return replace(self.preprocess, min_size=small, resize=how)

    @classmethod
    def from_files(
        cls,
        config: str | Path | None,
        weights: str | Path,
        *,
        device: str = "auto",
        overrides: Sequence[Any] = (),
        root: Path | None = None,
        mode: Mode = "reference",
        resize: Literal["auto", "pil", "fast"] = "auto",
    ) -> Predictor:
        """Build from a Detectron2 config (YAML) and a checkpoint (.pth, .pkl or .safetensors).

        Args:
            config: the YAML file; None for a state dict of torchvision's own detectors, which
                tells by itself what it is of.
            weights: the checkpoint; it must fit the config tensor for tensor.
            device: "auto", "cpu" or "cuda:n".
            overrides: KEY, VALUE, KEY, VALUE, ... that change the config.
            root: a folder that the config and its bases must not leave.
            mode, resize: see :class:`Predictor`.

        Raises:
            ConfigError, CheckpointError, PathNotAllowedError: with a sentence that says why.
        """
        if config is None:
            cfg = with_overrides(torchvision_config(weights), overrides)
        else:
            cfg = load_config(config, overrides, root=root)
        return cls.from_config(cfg, weights, device=device, mode=mode, resize=resize)

    @classmethod
    def from_config(
        cls,
        cfg: Config,
        weights: str | Path,
        *,
        device: str = "auto",
        mode: Mode = "reference",
        resize: Literal["auto", "pil", "fast"] = "auto",
    ) -> Predictor:
        """Build from a config that is at hand, such as one of the zoo, and a checkpoint.

        Args:
            cfg: the config.
            weights: the checkpoint; it must fit the config tensor for tensor.
            device: "auto", "cpu" or "cuda:n".
            mode, resize: see :class:`Predictor`.

        Raises:
            ConfigError, CheckpointError: with a sentence that says why.
        """
        target = resolve_device(device)
        use_exact_float32()
        model = build_model(cfg)
        report = load_checkpoint(model, weights)
        return cls(model.to(target), cfg, report, mode=mode, resize=resize)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        device: torch.device = self.model.device
        return device

    def __call__(
        self, image: NDArray[np.uint8] | Image.Image, *, channel_order: ChannelOrder = "RGB"
    ) -> Instances:
        """Detect in one picture; see :meth:`outputs` for models that give more, or no instances.

        Args:
            image: (H, W, 3) uint8, (H, W) uint8 grey, or a PIL image (its EXIF orientation is applied).
            channel_order: of an array; ignored for PIL images, which know theirs.

        Returns:
            Instances in pixels of the picture, on the CPU, with ``pred_boxes``, ``scores``,
            ``pred_classes`` and, with a mask head, ``pred_masks`` (R, H, W) bool.

        Raises:
            TypeError, ValueError: the picture has another type or shape.
        """
        outputs = self.outputs(image, channel_order=channel_order)
        if "instances" not in outputs:
            raise TypeError(
                f"This model gives {', '.join(outputs)} and no instances; use predictor.outputs(image)."
            )
        instances: Instances = outputs["instances"]
        return instances

    def outputs(
        self, image: NDArray[np.uint8] | Image.Image, *, channel_order: ChannelOrder = "RGB"
    ) -> dict[str, Any]:
        """All that the model gives for one picture, on the CPU, in pixels of the picture.

        Args and errors are those of a call.

        Returns:
            As the architecture has them ``instances``, ``proposals``, ``sem_seg`` (K, H, W) and
            ``panoptic_seg``; see :class:`models.architectures.base.DetectionModel`.
        """
        if isinstance(image, Image.Image):
            if image.mode.startswith(("I", "F")):
                raise TypeError(
                    f"The PIL image has mode {image.mode}, more than 8 bits a channel; bring it to 0 to "
                    "255 first, since PIL cuts off what is above."
                )
            image = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
            channel_order = "RGB"
        image = _as_colour(image)
        if channel_order not in {"RGB", "BGR"}:
            raise ValueError(f"channel_order is 'RGB' or 'BGR', not {channel_order!r}.")
        height, width = image.shape[:2]
        inputs = {
            "image": self.preprocess(image, channel_order),
            "height": height,
            "width": width,
        }
        with torch.inference_mode():
            output: dict[str, Any] = self.model([inputs])[0]
        return {
            name: (value[0].cpu(), value[1]) if name == "panoptic_seg" else value.to("cpu")
            for name, value in output.items()
        }


def _size_divisibility(model: nn.Module) -> int:
    """The model's own or, as with Detectron2's models, its backbone's; 0 where neither says."""
    for owner in (model, getattr(model, "backbone", None)):
        value: Any = getattr(owner, "size_divisibility", None)
        if value is not None:
            return int(value)
    return 0


def _as_colour(image: Any) -> NDArray[np.uint8]:
    """The array as (H, W, 3) uint8, or an error that says what a picture looks like."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"A picture is a NumPy array or a PIL image, not {type(image).__name__}.")
    if image.dtype != np.uint8:
        raise TypeError(
            f"A picture has dtype uint8 with values 0 to 255, not {image.dtype}; "
            "a float image in 0 to 1 becomes one by (image * 255).round().astype('uint8')."
        )
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
        raise ValueError(f"A picture has shape (H, W, 3) or (H, W), not {image.shape}.")
    if 0 in image.shape:
        raise ValueError(f"The picture is empty: shape {image.shape}.")
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
