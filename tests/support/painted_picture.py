"""A picture whose objects can be found again by their colours, however it was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pycocotools.mask as mask_api
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models import BitMasks, Instances
from models.config import Config, default_config
from models.training.data.dataset import TrainingDataset, TrainingImage, TrainingObject

HEIGHT, WIDTH = 120, 160

# The letter L, so that no mirror image of it equals it.
CORNERS = ((40, 24), (64, 24), (64, 72), (104, 72), (104, 96), (40, 96))
BOX = (40.0, 24.0, 104.0, 96.0)

# Pixels in the middle of markers of 9 x 9 pixels, on the long and on the short arm of the L.
LEFT, RIGHT = (52, 40), (90, 84)

MaskKind = Literal["polygon", "rle"]


def paint(path: Path) -> NDArray[np.bool_]:
    """Save the picture as PNG: a red L with a green marker (left) and a blue one (right) on black.

    Returns:
        (HEIGHT, WIDTH) bool, the L.
    """
    shape: NDArray[np.bool_] = mask_api.decode(
        mask_api.merge(
            mask_api.frPyObjects([[float(v) for c in CORNERS for v in c]], HEIGHT, WIDTH)
        )
    ).astype(bool)
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[shape] = (255, 0, 0)
    for (x, y), colour in ((LEFT, (0, 255, 0)), (RIGHT, (0, 0, 255))):
        pixels[y - 4 : y + 5, x - 4 : x + 5] = colour
    Image.fromarray(pixels).save(path)
    return shape


def painted_object(kind: MaskKind = "polygon", **changes: Any) -> TrainingObject:
    """The L with its mask, its box, and the middles of its markers as keypoints."""
    flat = tuple(float(value) for corner in CORNERS for value in corner)
    mask: dict[str, Any] = {"polygons": (flat,)}
    if kind == "rle":
        drawn = mask_api.merge(mask_api.frPyObjects([list(flat)], HEIGHT, WIDTH))
        mask = {"rle": drawn}
    keypoints = tuple(v for x, y in (LEFT, RIGHT) for v in (x + 0.5, y + 0.5, 2.0))
    return TrainingObject(**{"class_id": 0, "box": BOX, "keypoints": keypoints, **mask, **changes})


def painted_dataset(folder: Path, *objects: TrainingObject) -> TrainingDataset:
    """One painted picture with these objects, or with the L as a polygon."""
    paint(folder / "painted.png")
    objects = objects or (painted_object(),)
    return TrainingDataset(
        name="painted.json",
        class_names=("L", "other"),
        images=(TrainingImage(7, folder / "painted.png", HEIGHT, WIDTH, objects),),
        keypoint_names=("left", "right"),
        keypoint_flip_map=(("left", "right"),),
        has_masks=True,
        has_keypoints=True,
    )


def painted_config(**changes: Any) -> Config:
    """Masks and two keypoints, a picture of the size that it has; dots in keys are written ``__``."""
    cfg = default_config()
    settings: dict[str, Any] = {
        "MODEL__MASK_ON": True,
        "MODEL__KEYPOINT_ON": True,
        "MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS": 2,
        "INPUT__MIN_SIZE_TRAIN": (0,),
        "INPUT__RANDOM_FLIP": "none",
        "INPUT__FORMAT": "RGB",
        **changes,
    }
    for key, value in settings.items():
        cfg = cfg.override(key.replace("__", "."), value)
    return cfg


def painted_pixels(image: Tensor) -> Tensor:
    """(H, W) bool: where there is colour and neither black nor the grey of padding, so the L."""
    return image.amax(dim=0).int() - image.amin(dim=0).int() > 127


def drawn_mask(instances: Instances, index: int = 0) -> Tensor:
    """(H, W) bool of one mask, polygon or not."""
    masks = instances.gt_masks
    if isinstance(masks, BitMasks):
        return masks.tensor[index]
    polygons = [polygon.tolist() for polygon in masks.polygons[index]]
    drawn = mask_api.merge(mask_api.frPyObjects(polygons, *instances.image_size))
    return torch.from_numpy(mask_api.decode(drawn)).bool()


def overlap(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two bool masks."""
    return float((a & b).sum() / (a | b).sum())
