"""From the resolution that a detector works in to the one that its answer is wanted in."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from models.layers.mask_ops import paste_masks_in_image
from models.structures import Boxes, Instances, RotatedBoxes


def rescaled_boxes(
    boxes: Boxes | RotatedBoxes, image_size: tuple[int, int], output_size: tuple[int, int]
) -> Boxes | RotatedBoxes:
    """Boxes in an image of ``image_size`` as boxes, clipped, in the image at ``output_size``."""
    rescaled = boxes.clone()
    rescaled.scale(output_size[1] / image_size[1], output_size[0] / image_size[0])
    rescaled.clip(output_size)
    return rescaled


def rescale_instances(results: Instances, output_height: int, output_width: int) -> Instances:
    """Scale boxes to an image of the output size, clip them to it and drop those left empty.

    Boxes are ``pred_boxes`` or ``proposal_boxes``; ``pred_keypoints`` scale along. Soft masks stay as
    they are, since they are relative to their box. ``results`` is not changed.
    """
    rescaled = Instances((output_height, output_width), **results.get_fields())
    for name in ("pred_boxes", "proposal_boxes"):
        if rescaled.has(name):
            boxes = rescaled_boxes(rescaled.get(name), results.image_size, rescaled.image_size)
            rescaled.set(name, boxes)
            rescaled = rescaled[boxes.nonempty()]
    if rescaled.has("pred_keypoints"):
        height, width = results.image_size
        keypoints: Tensor = rescaled.pred_keypoints.clone()
        keypoints[:, :, 0] *= output_width / width
        keypoints[:, :, 1] *= output_height / height
        rescaled.pred_keypoints = keypoints
    return rescaled


def paste_instance_masks(instances: Instances, mask_threshold: float = 0.5) -> Instances:
    """The same instances with soft ``pred_masks`` (R, 1, M, M), if any, as (R, H, W) bool frames."""
    pasted = Instances(instances.image_size, **instances.get_fields())
    if pasted.has("pred_masks"):
        pasted.pred_masks = paste_masks_in_image(
            instances.pred_masks[:, 0],
            instances.pred_boxes.tensor,
            instances.image_size,
            mask_threshold,
        )
    return pasted


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Bring a detector's raw output to the output size.

    Args:
        results: raw instances; ``results.image_size`` is what the detector saw.
        output_height, output_width: the size that is wanted, in pixels.
        mask_threshold: a pixel belongs to a mask from this probability on.

    Returns:
        New instances with boxes in output pixels and ``pred_masks`` (R, H, W) bool.
    """
    return paste_instance_masks(
        rescale_instances(results, output_height, output_width), mask_threshold
    )


def sem_seg_postprocess(
    result: Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> Tensor:
    """Bring semantic logits to the output size.

    Args:
        result: (K, H, W) logits of the padded image.
        img_size: (height, width) of the image without padding.
        output_height, output_width: the size that is wanted, in pixels.

    Returns:
        (K, output_height, output_width) logits.
    """
    cropped = result[None, :, : img_size[0], : img_size[1]]
    return F.interpolate(
        cropped, size=(output_height, output_width), mode="bilinear", align_corners=False
    )[0]
