"""What was found in a window, in pixels of the picture; what the model handed out stays as it was."""

import numpy as np
import pycocotools.mask as mask_api
import torch

from models.structures import Boxes, Instances, RotatedBoxes
from service.inference.detector import Prediction
from service.inference.windows.placing import NO_CLASS, place
from service.inference.windows.window import Window

WINDOW = Window(10, 20, 18, 26)
SIZE = (40, 50)


def found(**fields: object) -> Instances:
    return Instances((6, 8), pred_boxes=Boxes(torch.tensor([[1.0, 2.0, 5.0, 6.0]])), **fields)


def placed(instances: Instances) -> Instances:
    moved = place(Prediction(instances=instances), WINDOW, *SIZE).instances
    assert moved is not None
    return moved


def test_boxes_and_keypoints_move_and_the_models_own_answer_does_not() -> None:
    instances = found(pred_keypoints=torch.tensor([[[1.0, 2.0, 0.9]]]))
    moved = placed(instances)
    assert moved.image_size == SIZE
    assert moved.pred_boxes.tensor.tolist() == [[11.0, 22.0, 15.0, 26.0]]
    assert torch.equal(moved.pred_keypoints, torch.tensor([[[11.0, 22.0, 0.9]]]))
    assert instances.pred_boxes.tensor.tolist() == [[1.0, 2.0, 5.0, 6.0]]
    assert torch.equal(instances.pred_keypoints, torch.tensor([[[1.0, 2.0, 0.9]]]))


def test_of_rotated_boxes_the_centre_moves() -> None:
    boxes = RotatedBoxes(torch.tensor([[3.0, 3.0, 4.0, 2.0, 30.0]]))
    moved = placed(Instances((6, 8), pred_boxes=boxes))
    assert moved.pred_boxes.tensor.tolist() == [[13.0, 23.0, 4.0, 2.0, 30.0]]


def test_frames_become_run_lengths_of_the_picture() -> None:
    frame = torch.zeros(1, 6, 8, dtype=torch.bool)
    frame[0, 2:6, 1:5] = True
    [mask] = placed(found(pred_masks=frame)).pred_masks
    expected = np.zeros(SIZE, dtype=np.uint8)
    expected[22:26, 11:15] = 1
    assert np.array_equal(mask_api.decode(mask), expected)


def test_soft_masks_lie_over_their_boxes_and_stay() -> None:
    soft = torch.rand(1, 1, 28, 28)
    assert placed(found(pred_masks=soft)).pred_masks is soft


def test_maps_say_nothing_outside_of_the_window() -> None:
    prediction = Prediction(
        sem_seg=torch.full((6, 8), 3, dtype=torch.int16),
        panoptic_seg=(torch.full((6, 8), 2, dtype=torch.int32), [{"id": 2}]),
    )
    moved = place(prediction, WINDOW, *SIZE)
    assert moved.sem_seg is not None
    assert moved.panoptic_seg is not None
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[20:26, 10:18] = True
    assert torch.equal(moved.sem_seg, torch.where(inside, 3, NO_CLASS).to(torch.int16))
    assert torch.equal(moved.panoptic_seg[0], torch.where(inside, 2, 0).to(torch.int32))
    assert moved.panoptic_seg[1] == [{"id": 2}]


def test_of_proposals_the_boxes_move() -> None:
    proposals = Instances(
        (6, 8),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0]])),
        objectness_logits=torch.tensor([0.5]),
    )
    moved = place(Prediction(proposals=proposals), WINDOW, *SIZE).proposals
    assert moved is not None
    assert moved.proposal_boxes.tensor.tolist() == [[10.0, 20.0, 11.0, 21.0]]
    assert proposals.proposal_boxes.tensor.tolist() == [[0.0, 0.0, 1.0, 1.0]]


def test_the_whole_picture_is_handed_on() -> None:
    prediction = Prediction(instances=found())
    assert place(prediction, Window.whole(6, 8), 6, 8) is prediction
