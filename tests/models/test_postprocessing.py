"""From the size that a detector saw to the size that is wanted."""

import pytest
import torch

from models import Boxes, Instances, detector_postprocess
from models.layers import paste_masks_in_image
from models.postprocessing import rescale_instances, sem_seg_postprocess


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


def test_keypoints_are_scaled_and_their_scores_stay() -> None:
    instances = raw()
    instances.pred_keypoints = torch.tensor([[[4.0, 6.0, 0.5]], [[1.0, 1.0, 0.25]]])
    result = rescale_instances(instances, 10, 80)
    assert result.pred_keypoints.tolist() == [[[8, 3, 0.5]]]
    assert instances.pred_keypoints[0, 0].tolist() == [4, 6, 0.5]


def test_proposals_are_scaled_clipped_and_dropped_when_empty() -> None:
    proposals = Instances(
        (20, 40), proposal_boxes=raw().pred_boxes, objectness_logits=torch.tensor([2.0, 1.0])
    )
    result = rescale_instances(proposals, 10, 80)
    assert result.proposal_boxes.tensor.tolist() == [[4, 2, 80, 8]]
    assert result.objectness_logits.tolist() == [2]


def test_semantic_logits_lose_the_padding_before_they_are_resized() -> None:
    logits = torch.full((2, 8, 12), 1000.0)
    logits[:, :4, :6] = torch.arange(24.0).reshape(4, 6)
    result = sem_seg_postprocess(logits, (4, 6), 8, 12)
    assert result.shape == (2, 8, 12)
    assert result.max() <= 23
    # Half-pixel centres: the corner stays, the next pixel lies a quarter on the way.
    assert result[0, 0, :2].tolist() == [0, 0.25]


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
