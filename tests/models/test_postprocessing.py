"""From the size that a detector saw to the size that is wanted."""

import pytest
import torch

from models import Boxes, Instances, detector_postprocess
from models.layers import paste_masks_in_image
from models.postprocessing import rescale_instances


def raw() -> Instances:
    """Two boxes in a 20 x 40 image; the second one leaves it entirely."""
    return Instances(
        (20, 40),
        pred_boxes=Boxes(torch.tensor([[2.0, 4.0, 50.0, 16.0], [41.0, 0.0, 45.0, 9.0]])),
        scores=torch.tensor([0.9, 0.8]),
        pred_classes=torch.tensor([3, 1]),
        pred_masks=torch.ones(2, 1, 28, 28),
    )


def test_boxes_are_scaled_clipped_and_dropped_when_empty() -> None:
    result = detector_postprocess(raw(), 10, 80)
    assert result.image_size == (10, 80)
    assert result.pred_boxes.tensor.tolist() == [[4, 2, 80, 8]]
    assert result.pred_classes.tolist() == [3]


def test_soft_masks_become_frames_of_the_output_size() -> None:
    result = detector_postprocess(raw(), 10, 80)
    assert result.pred_masks.shape == (1, 10, 80)
    assert result.pred_masks.dtype == torch.bool
    expected = paste_masks_in_image(torch.ones(1, 28, 28), result.pred_boxes.tensor, (10, 80))
    assert torch.equal(result.pred_masks, expected)


def test_the_mask_threshold_is_used() -> None:
    instances = raw()
    instances.pred_masks = torch.full((2, 1, 28, 28), 0.6)
    assert detector_postprocess(instances, 20, 40).pred_masks.any()
    assert not detector_postprocess(instances, 20, 40, mask_threshold=0.7).pred_masks.any()


def test_the_input_stays_as_it_is() -> None:
    instances = raw()
    detector_postprocess(instances, 10, 80)
    assert instances.image_size == (20, 40)
    assert torch.equal(instances.pred_boxes.tensor, raw().pred_boxes.tensor)
    assert instances.pred_masks.shape == (2, 1, 28, 28)


def test_rescaling_alone_keeps_soft_masks() -> None:
    assert rescale_instances(raw(), 10, 80).pred_masks.shape == (1, 1, 28, 28)


@pytest.mark.parametrize("with_masks", [True, False])
def test_no_instances_stay_no_instances(with_masks: bool) -> None:
    instances = raw()[:0]
    if not with_masks:
        instances.remove("pred_masks")
    result = detector_postprocess(instances, 10, 80)
    assert len(result) == 0
    assert result.has("pred_masks") is with_masks


def test_instances_without_boxes_get_the_new_size() -> None:
    result = detector_postprocess(Instances((20, 40), scores=torch.ones(2)), 10, 80)
    assert result.image_size == (10, 80)
    assert len(result) == 2
