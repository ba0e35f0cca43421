"""From the resolution that a detector works in to the one that its answer is wanted in."""

from __future__ import annotations

from models.layers.mask_ops import paste_masks_in_image
from models.structures import Boxes, Instances


def rescale_instances(results: Instances, output_height: int, output_width: int) -> Instances:
    """Scale boxes to an image of the output size, clip them to it and drop those left empty.

    Soft masks go along unchanged, since they are relative to their box. ``results`` stays as it is.
    """
    height, width = results.image_size
    rescaled = Instances((output_height, output_width), **results.get_fields())
    if rescaled.has("pred_boxes"):
        boxes: Boxes = rescaled.pred_boxes.clone()
        boxes.scale(output_width / width, output_height / height)
        boxes.clip(rescaled.image_size)
        rescaled.pred_boxes = boxes
        rescaled = rescaled[boxes.nonempty()]
    return rescaled


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
    rescaled = rescale_instances(results, output_height, output_width)
    if rescaled.has("pred_masks"):
        rescaled.pred_masks = paste_masks_in_image(
            rescaled.pred_masks[:, 0],
            rescaled.pred_boxes.tensor,
            rescaled.image_size,
            mask_threshold,
        )
    return rescaled
