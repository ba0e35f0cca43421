"""COCO AP of answers: what they become, what is left out, and what cannot be measured."""

from typing import Any

import numpy as np
import pytest
import torch
from coco_files import DatasetFiles
from numpy.typing import NDArray
from PIL import Image

from models.evaluation import CocoDataset, CocoEvaluator, EvaluationError, evaluate
from models.structures import Boxes, Instances, RotatedBoxes

NAMES = ["cat", "dog", "bird"]
CAT, DOG, BIRD = 0, 1, 2
SIZES = {3: (40, 60), 8: (50, 70)}
PERFECT = {
    3: [(CAT, [10.0, 10, 30, 30]), (DOG, [30.0, 5, 40, 35])],
    8: [(DOG, [0.0, 0, 40, 40])],
}


def answer(image_id: int, found: list[Any], *, masks: str = "frames", score: float = 0.9) -> Any:
    """Instances of these classes and boxes, whose masks fill their boxes."""
    height, width = SIZES[image_id]
    boxes = torch.tensor([box for _, box in found]).reshape(-1, 4)
    instances = Instances(
        (height, width),
        pred_boxes=Boxes(boxes),
        scores=torch.full((len(found),), score),
        pred_classes=torch.tensor([c for c, _ in found], dtype=torch.int64),
    )
    if masks == "soft":
        instances.pred_masks = torch.ones(len(found), 1, 28, 28)
    elif masks == "frames":
        frames = torch.zeros(len(found), height, width, dtype=torch.bool)
        for frame, (x1, y1, x2, y2) in zip(frames, boxes.int().tolist(), strict=True):
            frame[y1:y2, x1:x2] = True
        instances.pred_masks = frames
    return instances


def measured(dataset: CocoDataset, answers: dict[int, Any], **options: Any) -> Any:
    evaluator = CocoEvaluator(dataset, NAMES, **options)
    for image_id, instances in answers.items():
        evaluator.add(image_id, instances)
    return evaluator.result()


@pytest.mark.parametrize("masks", ["frames", "soft"])
def test_perfect_answers_have_everything(files: DatasetFiles, masks: str) -> None:
    answers = {i: answer(i, found, masks=masks) for i, found in PERFECT.items()}
    result = measured(files.load(), answers)
    assert set(result.figures) == {"bbox", "segm"}
    for kind in ("bbox", "segm"):
        assert result.ap(kind) == pytest.approx(100)
        assert result.per_class[kind] == pytest.approx({"dog": 100, "cat": 100})
    assert (result.images, result.instances, result.detections) == (2, 3, 3)
    assert (result.classes_matched_by, result.classes_left_out) == ("name", 1)


def test_sizes_that_the_data_set_lacks_have_no_figure(files: DatasetFiles) -> None:
    figures = measured(files.load(), {i: answer(i, f) for i, f in PERFECT.items()}).figures["bbox"]
    assert list(figures) == ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"]
    assert figures["APs"] == figures["APm"] == pytest.approx(100)
    assert figures["APl"] is None


def test_what_is_not_found_is_missed_and_false_ones_cost(files: DatasetFiles) -> None:
    found = {3: answer(3, PERFECT[3][:1]), 8: answer(8, [])}
    result = measured(files.load(), found)
    assert result.per_class["bbox"] == pytest.approx({"dog": 0, "cat": 100})
    wrong = {3: answer(3, [(CAT, [40.0, 0, 60, 20])], score=0.95), 8: answer(8, [])}
    assert measured(files.load(), wrong).ap() == pytest.approx(0)


def test_classes_that_the_data_set_does_not_know_are_no_false_ones(files: DatasetFiles) -> None:
    found = {i: answer(i, [(BIRD, [0.0, 0, 9, 9]), *f]) for i, f in PERFECT.items()}
    result = measured(files.load(), found)
    assert result.ap() == pytest.approx(100)
    assert result.detections == 3


def test_an_annotation_with_the_id_zero_can_be_found(files: DatasetFiles) -> None:
    assert files.content["annotations"][0]["id"] == 0
    found = {i: answer(i, f) for i, f in PERFECT.items()}
    assert measured(files.load(), found).per_class["bbox"]["cat"] == pytest.approx(100)


def test_the_area_of_a_detection_is_its_masks_for_masks(files: DatasetFiles) -> None:
    """A large box with a small mask is, for masks, no false medium one."""
    false = answer(3, [(CAT, [0.0, 0, 60, 40])], score=0.99)
    false.pred_masks[:] = False
    false.pred_masks[0, 0, 0] = True
    both = Instances.cat([false, answer(3, PERFECT[3])])
    files.content["annotations"][0]["area"] = 2000
    result = measured(files.load(), {3: both, 8: answer(8, PERFECT[8])})
    assert result.figures["segm"]["APm"] == pytest.approx(100)
    assert result.figures["bbox"]["APm"] < 100


def test_without_a_wish_only_what_answers_and_annotations_both_have(files: DatasetFiles) -> None:
    boxes_alone = {i: answer(i, f, masks="none") for i, f in PERFECT.items()}
    assert set(measured(files.load(), boxes_alone).figures) == {"bbox"}
    mixed = {3: answer(3, PERFECT[3]), 8: answer(8, PERFECT[8], masks="none")}
    assert set(measured(files.load(), mixed).figures) == {"bbox"}
    with_an_empty_one = {3: answer(3, PERFECT[3]), 8: answer(8, [], masks="none")}
    assert set(measured(files.load(), with_an_empty_one).figures) == {"bbox", "segm"}
    files.content["annotations"][1]["segmentation"] = []
    masks = {i: answer(i, f) for i, f in PERFECT.items()}
    assert set(measured(files.load(), masks).figures) == {"bbox"}


def test_a_wish_that_cannot_be_met_is_an_error(files: DatasetFiles) -> None:
    with pytest.raises(EvaluationError, match="'mask' is no IoU type; there are bbox, segm"):
        measured(files.load(), {}, iou_types=["mask"])
    with pytest.raises(EvaluationError, match="annotations without keypoints; leave keypoints out"):
        measured(files.load(), {}, iou_types=["keypoints"])
    with pytest.raises(EvaluationError, match="has no pred_masks; leave segm out"):
        measured(files.load(), {3: answer(3, PERFECT[3], masks="none")}, iou_types=["segm"])
    wanted = {i: answer(i, f) for i, f in PERFECT.items()}
    assert set(measured(files.load(), wanted, iou_types=["segm"]).figures) == {"segm"}


def with_keypoints(files: DatasetFiles, number: int) -> dict[int, Any]:
    """Annotate keypoints on the diagonals of all boxes; give perfect answers."""
    answers = {i: answer(i, found) for i, found in PERFECT.items()}
    places = torch.linspace(0, 1, number)
    for annotation in files.content["annotations"]:
        x, y, width, height = annotation["bbox"]
        points = [[int(x + width * t), int(y + height * t), 2] for t in places.tolist()]
        annotation["keypoints"] = [value for point in points for value in point]
    for image_id, instances in answers.items():
        mine = [a for a in files.content["annotations"] if a["image_id"] == image_id]
        table = torch.tensor([a["keypoints"] for a in mine]).reshape(-1, number, 3).float()
        # A pixel's centre, as the keypoint head gives it, lies half a pixel behind its index.
        instances.pred_keypoints = table + torch.tensor([0.5, 0.5, 0.0])
    return answers


def test_keypoints_are_indices_of_pixels_to_coco(files: DatasetFiles) -> None:
    answers = with_keypoints(files, 17)
    result = measured(files.load(), answers)
    assert set(result.figures) == {"bbox", "segm", "keypoints"}
    assert list(result.figures["keypoints"]) == ["AP", "AP50", "AP75", "APm", "APl", "AR"]
    assert result.ap("keypoints") == pytest.approx(100)
    tiny = measured(files.load(), answers, keypoint_sigmas=[1e-3] * 17)
    assert tiny.ap("keypoints") == pytest.approx(100)  # exact, not merely near


def test_other_than_cocos_17_keypoints_get_one_sigma_and_a_note(files: DatasetFiles) -> None:
    answers = with_keypoints(files, 5)
    given = measured(files.load(), answers, keypoint_sigmas=[0.1] * 5)
    assert given.ap("keypoints") == pytest.approx(100)
    assert given.notes == ()
    guessed = measured(files.load(), answers)
    assert guessed.ap("keypoints") == pytest.approx(100)
    assert guessed.notes[0].startswith("The 5 keypoints are not COCO's 17")
    assert guessed.to_dict()["notes"] == list(guessed.notes)


def test_keypoints_of_another_number_than_annotations_or_sigmas(files: DatasetFiles) -> None:
    answers = with_keypoints(files, 5)
    with pytest.raises(EvaluationError, match="5 keypoints, but there are 4 sigmas"):
        measured(files.load(), answers, keypoint_sigmas=[0.1] * 4)
    with pytest.raises(EvaluationError, match="is a number above 0"):
        measured(files.load(), answers, keypoint_sigmas=[0.1] * 4 + [0.0])
    files.content["annotations"][2]["keypoints"] = [1, 1, 2]
    with pytest.raises(EvaluationError, match="annotations with another number"):
        measured(files.load(), answers)


def test_a_guessed_sigma_is_what_the_note_says(files: DatasetFiles) -> None:
    answers = with_keypoints(files, 5)
    for instances in answers.values():
        instances.pred_keypoints[:, :, 0] += 2
    guessed = measured(files.load(), answers).figures["keypoints"]
    assert (
        guessed == measured(files.load(), answers, keypoint_sigmas=[0.067] * 5).figures["keypoints"]
    )
    assert (
        guessed != measured(files.load(), answers, keypoint_sigmas=[0.02] * 5).figures["keypoints"]
    )


def test_a_model_may_be_measured_without_knowing_all_categories(files: DatasetFiles) -> None:
    cats = {i: answer(i, [(0, box) for c, box in f if c == CAT]) for i, f in PERFECT.items()}
    with pytest.raises(EvaluationError, match="Give both the same names"):
        CocoEvaluator(files.load(), ["cat"])
    evaluator = CocoEvaluator(files.load(), ["cat"], unknown_categories="miss")
    for image_id, instances in cats.items():
        evaluator.add(image_id, instances)
    assert evaluator.result().per_class["bbox"] == pytest.approx({"cat": 100, "dog": 0})
    with pytest.raises(EvaluationError, match="Give both the same names"):
        CocoEvaluator(files.load(), ["cow"], unknown_categories="miss")


@pytest.mark.parametrize("field", ["scores", "pred_boxes"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite(files: DatasetFiles, field: str, value: float) -> None:
    broken = answer(3, PERFECT[3])
    tensor = broken.scores if field == "scores" else broken.pred_boxes.tensor
    tensor[0] = value
    with pytest.raises(EvaluationError, match="not finite; the weights are broken"):
        measured(files.load(), {3: broken})


def test_answers_that_do_not_belong_here(files: DatasetFiles) -> None:
    evaluator = CocoEvaluator(files.load(), NAMES)
    with pytest.raises(EvaluationError, match="Image 4 is not in the data set"):
        evaluator.add(4, answer(3, []))
    with pytest.raises(EvaluationError, match=r"is in \(50, 70\), not in the picture's \(40, 60\)"):
        evaluator.add(3, answer(8, []))
    with pytest.raises(EvaluationError, match="has classes 0 to 3; the model has 3 names"):
        evaluator.add(3, answer(3, [(CAT, [0.0, 0, 9, 9]), (3, [0.0, 0, 9, 9])]))
    evaluator.add(3, answer(3, []))
    with pytest.raises(EvaluationError, match="Image 3 was added before"):
        evaluator.add(3, answer(3, []))
    with pytest.raises(EvaluationError, match="1 of 2 images have no answer"):
        evaluator.result()


def test_rotated_boxes_have_no_coco_ap(files: DatasetFiles) -> None:
    turned = answer(3, [], masks="none")
    turned.pred_boxes = RotatedBoxes(torch.zeros(0, 5))
    with pytest.raises(EvaluationError, match="rotated boxes"):
        measured(files.load(), {3: turned})


def test_nothing_is_printed(files: DatasetFiles, capsys: pytest.CaptureFixture[str]) -> None:
    measured(files.load(), {i: answer(i, f) for i, f in PERFECT.items()})
    assert capsys.readouterr().out == ""


def test_a_data_set_without_annotations_has_no_figures(files: DatasetFiles) -> None:
    files.content["annotations"] = []
    result = measured(files.load(), {i: answer(i, f) for i, f in PERFECT.items()})
    assert set(result.figures["bbox"].values()) == {None}


def test_the_result_as_json_has_three_decimals(files: DatasetFiles) -> None:
    content = measured(files.load(), {3: answer(3, PERFECT[3]), 8: answer(8, [])}).to_dict()
    assert content["figures"]["bbox"]["AP"] == pytest.approx(75.248, abs=5e-4)
    assert content["figures"]["bbox"]["APl"] is None
    assert content["per_class"]["bbox"]["cat"] == 100.0
    assert (content["dataset"], content["instances"]) == ("set.json", 3)


def test_evaluate_shows_every_picture_and_tells_how_far_it_is(files: DatasetFiles) -> None:
    ids = {size: image_id for image_id, size in SIZES.items()}

    def predict(pixels: NDArray[np.uint8]) -> Instances:
        image_id = ids[pixels.shape[0], pixels.shape[1]]
        return answer(image_id, PERFECT[image_id])

    steps: list[tuple[int, int]] = []
    told = evaluate(predict, files.load(), NAMES, progress=lambda *step: steps.append(step))
    assert told.ap() == pytest.approx(100)
    assert steps == [(1, 2), (2, 2)]
    Image.fromarray(np.zeros((50, 71, 3), np.uint8)).save(files.folder / "set" / "two.png")
    with pytest.raises(EvaluationError, match=r"two.png is 71x50 pixels, but should be 70x50"):
        evaluate(predict, files.load(), NAMES)
