"""What a request wants: computed for that alone, and equal to a choice among the full answer."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_models import MODELS, write_small_model

from models import Instances, Predictor
from models.structures import Boxes
from models.test_time_augmentation import with_tta
from models.tta_views import DatasetMapperTTA
from models.wanted import EVERYTHING, Wanted

FINDERS = [name for name, small in MODELS.items() if "instances" in small.outputs]


@pytest.fixture(scope="module", params=FINDERS)
def predictor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Predictor:
    return Predictor.from_files(*write_small_model(request.param, tmp_path_factory.mktemp("model")))


def inputs(predictor: Predictor, number: int = 2) -> list[dict[str, Any]]:
    """Images of one size, in another size than the answers."""
    generator = torch.Generator().manual_seed(3)
    size = (320, 320) if "TORCHVISION" in predictor.cfg.MODEL else (96, 128)
    given = []
    for _ in range(number):
        image = torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8)
        given.append({"image": image, "height": 60, "width": 90})
        if predictor.cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals":
            boxes = torch.tensor([[0.0, 0, 60, 50], [20, 20, 90, 95], [5, 5, 120, 60]])
            given[-1]["proposals"] = Instances(
                size, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(3)
            )
    return given


def predict(predictor: Predictor, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with torch.inference_mode():
        outputs: list[dict[str, Any]] = predictor.model.predict(given)
    return outputs


def choices(found: Instances) -> list[Wanted]:
    """Each filter alone and all at once, cutting through the middle of what is there."""
    middle = float(found.scores[len(found) // 2])
    commonest = int(found.pred_classes.mode().values)
    return [
        EVERYTHING,
        Wanted(score_threshold=middle),
        Wanted(class_ids=frozenset({commonest})),
        Wanted(max_detections=2),
        Wanted(score_threshold=2.0),
        Wanted(max_detections=0),
        Wanted(score_threshold=middle, class_ids=frozenset({commonest}), max_detections=1),
    ]


def same(ours: Instances, expected: Instances) -> None:
    assert len(ours) == len(expected)
    assert ours.pred_classes.tolist() == expected.pred_classes.tolist()
    torch.testing.assert_close(ours.scores, expected.scores)
    torch.testing.assert_close(ours.pred_boxes.tensor, expected.pred_boxes.tensor)
    for name in ("pred_masks", "pred_keypoints"):
        assert ours.has(name) == expected.has(name)
        if ours.has(name):
            torch.testing.assert_close(ours.get(name), expected.get(name), rtol=1e-4, atol=1e-5)


def test_what_survives_is_what_filtering_the_full_answer_leaves(predictor: Predictor) -> None:
    """In one batch with an image that wants everything."""
    given = inputs(predictor)
    full = [output["instances"] for output in predict(predictor, given)]
    assert len(full[0]) > 2
    for wanted in choices(full[0]):
        outputs = predict(predictor, [{**given[0], "wanted": wanted}, given[1]])
        chosen = outputs[0]["instances"]
        same(chosen[wanted.index(chosen)], full[0][wanted.index(full[0])])
        same(outputs[1]["instances"], full[1])


def test_the_scores_of_all_that_was_found_are_told(predictor: Predictor) -> None:
    given = inputs(predictor, 1)
    full = predict(predictor, given)[0]
    assert "found_scores" not in full
    output = predict(predictor, [{**given[0], "wanted": Wanted(max_detections=1)}])[0]
    if "found_scores" in output:
        torch.testing.assert_close(output["found_scores"], full["instances"].scores)
    else:  # it left nothing out
        same(output["instances"], full["instances"])


def test_without_masks_the_mask_head_does_not_run(predictor: Predictor) -> None:
    given = inputs(predictor)
    full = [output["instances"] for output in predict(predictor, given)]
    heads = getattr(predictor.model, "roi_heads", None)
    head = getattr(heads, "mask_head", None) or getattr(heads, "keypoint_head", None)
    calls: list[Any] = []
    handle = head.register_forward_hook(lambda *args: calls.append(args)) if head else None
    boxes_only = Wanted(masks=False, keypoints=False, segmentation=False)
    outputs = predict(predictor, [{**one, "wanted": boxes_only} for one in given])
    if handle is not None:
        handle.remove()
    assert calls == []
    for output, expected in zip(outputs, full, strict=True):
        found = output["instances"]
        assert found.scores.tolist() == pytest.approx(expected.scores.tolist(), abs=1e-5)
        assert not found.has("pred_masks")
        assert not found.has("pred_keypoints") or head is None


def test_only_the_images_that_want_masks_get_them(tmp_path: Any) -> None:
    predictor = Predictor.from_files(*write_small_model("mask_rcnn", tmp_path))
    given = inputs(predictor)
    full = predict(predictor, given)
    outputs = predict(predictor, [{**given[0], "wanted": Wanted(masks=False)}, given[1]])
    assert not outputs[0]["instances"].has("pred_masks")
    same(outputs[1]["instances"], full[1]["instances"])


@pytest.mark.parametrize("name", ["mask_rcnn", "keypoints", "retinanet"])
def test_with_test_time_augmentation_too(name: str, tmp_path: Any) -> None:
    predictor = Predictor.from_files(*write_small_model(name, tmp_path))
    model = with_tta(predictor.cfg, predictor.model, DatasetMapperTTA([64, 96], 160, True))
    given = inputs(predictor, 1)[0]
    with torch.inference_mode():
        full = model.predict([given])[0]["instances"]
        for wanted in choices(full):
            output = model.predict([{**given, "wanted": wanted}])[0]
            chosen = output["instances"]
            same(chosen, full[wanted.index(full)])
            assert len(output["found_scores"]) >= len(full)
        plain = model.predict([{**given, "wanted": Wanted(masks=False, keypoints=False)}])[0]
    assert not plain["instances"].has("pred_masks")
    assert not plain["instances"].has("pred_keypoints")


def test_panoptic_maps_are_not_filtered(tmp_path: Any) -> None:
    predictor = Predictor.from_files(*write_small_model("panoptic", tmp_path))
    given = inputs(predictor, 1)[0]
    full = predict(predictor, [given])[0]
    wanted = Wanted(max_detections=1)
    output = predict(predictor, [{**given, "wanted": wanted}])[0]
    assert torch.equal(output["panoptic_seg"][0], full["panoptic_seg"][0])
    assert output["panoptic_seg"][1] == full["panoptic_seg"][1]
    no_map = predict(predictor, [{**given, "wanted": replace(wanted, segmentation=False)}])[0]
    assert set(no_map) == {"instances", "found_scores"}
    same(no_map["instances"], full["instances"][:1])


def test_a_box_that_the_output_size_leaves_nothing_of_takes_no_place() -> None:
    found = Instances(
        (10, 10),
        pred_boxes=Boxes(torch.tensor([[0.0, 0, 0, 5], [0, 0, 5, 5], [1, 1, 6, 6]])),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        pred_classes=torch.tensor([0, 0, 0]),
    )
    index = Wanted(max_detections=1).index(found, found.pred_boxes.nonempty())
    assert index.tolist() == [1]
