"""What a version must show before it takes traffic, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from fake_detector import FakeDetector
from PIL import Image
from small_models import write_small_model

from models.errors import ModelError
from models.structures import Boxes, Instances, RotatedBoxes
from service.errors import Unavailable
from service.inference.detector import Prediction, PreparedImage, at_once
from service.inference.loading import load_torch_detector
from service.inference.torch_detector import TorchDetector
from service.repository import self_check as self_check_module
from service.repository.self_check import SAMPLES, SelfCheckReport, self_check
from service.settings import PRETRAINED

T = TypeVar("T")
NAN, INF = float("nan"), float("inf")


def check(detector: Any, **options: Any) -> SelfCheckReport:
    return self_check(detector, call=at_once, **options)


def answering(make: Callable[[PreparedImage], Prediction], **described: Any) -> FakeDetector:
    detector = FakeDetector(**described)
    detector.predicts = make
    return detector


def found(**fields: Any) -> Callable[[PreparedImage], Prediction]:
    """One instance in every picture, sound but for ``fields``."""
    sound = {
        "pred_boxes": Boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]])),
        "scores": torch.tensor([0.5]),
        "pred_classes": torch.tensor([0]),
    }
    return lambda image: Prediction(Instances((image.height, image.width), **(sound | fields)))


# --- the pictures ---------------------------------------------------------------------------------


def test_noise_and_pictures_of_things_are_answered_each_in_a_call_of_its_own() -> None:
    calls = 0

    def call(function: Callable[[], T], /) -> T:
        nonlocal calls
        calls += 1
        return function()

    detector = FakeDetector()
    report = self_check(detector, call=call)
    assert len(detector.batches) == calls == 3
    told = [(picture.name, picture.found) for picture in report.pictures]
    assert told == [("noise", 3), (SAMPLES[0], 3), (SAMPLES[1], 3)]
    assert (report.pictures[0].height, report.pictures[0].width) == (64, 64)
    assert report.weights_checked is False
    json.dumps(report.to_dict())


@pytest.mark.parametrize(("min_size", "side"), [(0, 256), (100, 100), (8000, 512)])
def test_the_noise_is_of_the_models_size_but_small(min_size: int, side: int) -> None:
    report = check(FakeDetector(min_size=min_size))
    assert (report.pictures[0].height, report.pictures[0].width) == (side, side)


@pytest.mark.parametrize("takes", [True, False])
def test_a_model_that_takes_proposals_gets_the_whole_picture_as_one(takes: bool) -> None:
    detector = FakeDetector(takes_proposals=takes)
    check(detector)
    given = [proposals for _, proposals in detector.given]
    assert all((proposals is not None) == takes for proposals in given)
    if takes:
        assert given[0] is not None
        assert given[0].tolist() == [[0, 0, 64, 64]]


# --- the answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction(instances=Instances((64, 64), pred_boxes=Boxes(torch.zeros(0, 4)))),
        Prediction(proposals=Instances((64, 64), proposal_boxes=Boxes(torch.zeros(0, 4)))),
        Prediction(sem_seg=torch.zeros(64, 64, dtype=torch.int16)),
        Prediction(panoptic_seg=(torch.zeros(64, 64, dtype=torch.int32), [])),
        Prediction(),
    ],
    ids=["no_instances", "proposals", "sem_seg", "panoptic_seg", "nothing"],
)
def test_a_model_that_finds_nothing_passes(prediction: Prediction) -> None:
    report = check(answering(lambda _: prediction))
    assert [picture.found for picture in report.pictures] == [0, 0, 0]


@pytest.mark.parametrize("number", [NAN, INF, -INF])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: {"scores": torch.tensor([x])},
        lambda x: {"pred_boxes": Boxes(torch.full((1, 4), x))},
        lambda x: {"pred_masks": torch.full((1, 1, 4, 4), x)},
        lambda x: {"pred_keypoints": torch.full((1, 17, 3), x)},
    ],
    ids=["scores", "boxes", "masks", "keypoints"],
)
def test_numbers_of_instances_that_are_not_finite_are_refused(spoil: Any, number: float) -> None:
    with pytest.raises(ModelError, match="not finite"):
        check(answering(found(**spoil(number))))


def test_other_numbers_that_are_not_finite_are_refused() -> None:
    for prediction in (
        Prediction(sem_seg=torch.full((8, 8), NAN)),
        Prediction(found_scores=torch.tensor([NAN])),
        Prediction(proposals=Instances((8, 8), proposal_boxes=Boxes(torch.full((1, 4), INF)))),
        Prediction(proposals=Instances((8, 8), objectness_logits=torch.tensor([NAN]))),
    ):
        with pytest.raises(ModelError, match="not finite"):
            check(answering(lambda _, prediction=prediction: prediction))


@pytest.mark.parametrize("box", [[-5.0, 0, 3, 4], [0, 0, 5000, 4], [0, 0, 3, 5000.0]])
def test_boxes_outside_of_the_picture_are_refused(box: list[float]) -> None:
    with pytest.raises(ModelError, match="outside of the picture"):
        check(answering(found(pred_boxes=Boxes(torch.tensor([box])))))


def test_boxes_to_the_edge_and_rotated_ones_beyond_it_pass() -> None:
    def to_the_edge(image: PreparedImage) -> Prediction:
        edge = torch.tensor([[-0.01, 0.0, image.width + 0.01, image.height]])
        return found(pred_boxes=Boxes(edge))(image)

    check(answering(to_the_edge))
    beyond = torch.tensor([[0.0, 0.0, 9000.0, 9.0, 45.0]])
    check(answering(found(pred_boxes=RotatedBoxes(beyond))))


# --- failures -------------------------------------------------------------------------------------


def test_a_model_that_raises_is_refused_without_its_words() -> None:
    detector = FakeDetector()
    detector.fail_on = set(range(256))
    detector.error = lambda: RuntimeError("secret")
    with pytest.raises(ModelError, match="self-check: RuntimeError") as caught:
        check(detector)
    assert "secret" not in caught.value.message


def test_a_model_that_answers_nothing_at_all_is_refused() -> None:
    detector = FakeDetector()
    detector.answers = lambda answers: []
    with pytest.raises(ModelError, match="self-check"):
        check(detector)


def test_a_picture_without_memory_is_refused_with_what_to_do() -> None:
    detector = FakeDetector()
    detector.fits = 0
    with pytest.raises(ModelError, match="in_place"):
        check(detector)


def test_a_server_that_stops_says_so_itself() -> None:
    def closed(_: Callable[[], T], /) -> T:
        raise Unavailable("draining", "The server is shutting down.")

    with pytest.raises(Unavailable):
        self_check(FakeDetector(), call=closed)


# --- how far the fast path lies from the reference ------------------------------------------------

SOUND = {"instances": 40, "matched": 1.0, "exact": 1.0, "score": 0.0, "box_px": 0.0, "pixels": 0.0}


def running(mode: str, resize: str = "pil", **measured: float) -> FakeDetector:
    execution = {"mode": mode, "resize": resize, "deviation": SOUND | measured}
    return FakeDetector(execution=execution)


def test_what_was_measured_at_load_is_reported() -> None:
    assert check(running("exact")).deviation == SOUND
    assert check(FakeDetector(execution={"mode": "reference", "deviation": None})).deviation is None


@pytest.mark.parametrize("measured", [{"exact": 0.9}, {"pixels": 0.01}])
def test_the_exact_mode_is_held_to_its_promise(measured: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="mode exact") as caught:
        check(running("exact", **measured))
    assert caught.value.details["deviation"] == SOUND | measured
    for mode, resize in (("fast", "fast"), ("exact", "fast")):
        check(running(mode, resize, **measured))


@pytest.mark.parametrize("measured", [{"matched": 0.2}, {"score": 0.3}, {"pixels": 0.2}])
def test_the_fast_mode_may_be_off_and_not_wrong(measured: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="mode fast"):
        check(running("fast", "fast", **measured))


def test_a_share_of_a_few_instances_says_nothing() -> None:
    check(running("fast", "fast", instances=3, matched=0.0))


# --- weights --------------------------------------------------------------------------------------


def load(config: Path | None, weights: Path, mode: Any = "exact") -> TorchDetector:
    return load_torch_detector(config=config, weights=weights, labels=None, device="cpu", mode=mode)


@pytest.fixture(scope="module")
def embedded() -> TorchDetector:
    return load(PRETRAINED / "config.yaml", PRETRAINED / "model_final.pth")


def test_the_embedded_model_passes_and_finds_its_shapes(embedded: TorchDetector) -> None:
    report = check(embedded)
    assert report.weights_checked
    assert report.deviation is not None
    assert all(picture.found > 0 for picture in report.pictures[1:])


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("mask_rcnn", "backbone.bottom_up.stem.conv1.weight"),
        ("mask_rcnn", "backbone.bottom_up.res2.0.conv1.norm.running_var"),
        ("mask_rcnn", "proposal_generator.rpn_head.objectness_logits.bias"),
        ("mask_rcnn", "roi_heads.box_predictor.cls_score.weight"),
        ("mask_rcnn", "roi_heads.box_predictor.bbox_pred.bias"),
        ("mask_rcnn", "roi_heads.mask_head.predictor.weight"),
        ("retinanet", "head.cls_score.bias"),
        ("keypoints", "roi_heads.keypoint_head.score_lowres.weight"),
        ("semantic", "sem_seg_head.predictor.weight"),
    ],
)
def test_weights_of_nan_are_refused_in_models_of_every_kind(
    name: str, tensor: str, tmp_path: Path
) -> None:
    detector = load(*write_small_model(name, tmp_path), mode="reference")
    assert check(detector).weights_checked
    detector.predictor.model.state_dict()[tensor].view(-1)[0] = NAN
    with pytest.raises(ModelError, match="not finite") as caught:
        check(detector)
    assert caught.value.details == {"tensor": f"{tensor} (float32)"}


def test_a_model_whose_scores_are_nan_answers_nothing_and_is_refused_all_the_same(
    tmp_path: Path,
) -> None:
    """Nothing in its answers tells."""
    detector = load(*write_small_model("mask_rcnn", tmp_path), mode="reference")
    detector.predictor.model.state_dict()["roi_heads.box_predictor.cls_score.weight"].fill_(NAN)
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    [prediction] = detector.infer([detector.prepare(picture)])
    assert prediction.instances is not None
    assert len(prediction.instances) == 0
    with pytest.raises(ModelError, match=r"cls_score\.weight"):
        check(detector)


# --- golden answers -------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A version's folder with what :class:`FakeDetector` 1 answers to one picture."""
    (tmp_path / "golden").mkdir()
    pixels = np.full((48, 64, 3), 8, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "golden" / "a.png")
    instances = {
        "pred_boxes": [[0.125, 1.0, 64.0, 48.0]] * 3,
        "pred_classes": [0, 1, 2],
        "scores": [0.9, 0.6, 0.3],
    }
    image = {"name": "a.png", "height": 48, "width": 64}
    write_golden(tmp_path, [{"image": image, "instances": instances}])
    return tmp_path


def write_golden(folder: Path, predictions: list[Any]) -> None:
    (folder / "golden.json").write_text(json.dumps({"predictions": predictions}))


def test_golden_answers_that_are_given_are_in_the_report(shipped: Path) -> None:
    report = check(FakeDetector(1), golden=shipped)
    assert [picture.name for picture in report.pictures][3:] == ["a.png"]
    assert report.golden is not None
    assert report.golden["holds"]
    json.dumps(report.to_dict())


def test_other_answers_are_refused_with_the_table_of_figures(shipped: Path) -> None:
    with pytest.raises(ModelError, match=r"box_px is 4\.875") as caught:
        check(FakeDetector(40), golden=shipped)
    golden = caught.value.details["golden"]
    assert not golden["holds"]
    assert {figure["name"] for figure in golden["figures"]} >= {"matched", "score", "box_px"}


def test_a_model_that_finds_nothing_is_refused_by_its_golden_answers(shipped: Path) -> None:
    detector = FakeDetector()
    detector.answers = lambda answers: [found[:0] for found in answers]
    with pytest.raises(ModelError, match="golden answers"):
        check(detector, golden=shipped)


def test_golden_answers_that_cannot_be_read_are_refused_before_anything_runs(
    shipped: Path,
) -> None:
    (shipped / "golden.json").write_text("{")
    detector = FakeDetector()
    with pytest.raises(ModelError):
        check(detector, golden=shipped)
    assert detector.batches == []


def test_a_golden_picture_that_is_none_or_too_large_is_refused(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = shipped / "golden" / "a.png"
    picture.write_bytes(b"no picture")
    with pytest.raises(ModelError, match=r"golden picture 'a\.png'"):
        check(FakeDetector(), golden=shipped)
    monkeypatch.setattr(self_check_module, "GOLDEN_BYTES", 5)
    with pytest.raises(ModelError, match="larger than 5 bytes"):
        check(FakeDetector(), golden=shipped)


def test_golden_answers_need_a_model_that_finds_instances(shipped: Path) -> None:
    with pytest.raises(ModelError, match="answers none"):
        check(answering(lambda _: Prediction()), golden=shipped)
    with pytest.raises(ModelError, match="takes proposals"):
        check(FakeDetector(takes_proposals=True), golden=shipped)


def test_the_embedded_model_gives_its_own_answers_again(
    embedded: TorchDetector, tmp_path: Path
) -> None:
    (tmp_path / "golden").mkdir()
    shutil.copy(PRETRAINED / "samples" / SAMPLES[0], tmp_path / "golden" / "a.jpg")
    pixels = np.asarray(Image.open(tmp_path / "golden" / "a.jpg").convert("RGB"))
    [prediction] = embedded.infer([embedded.prepare(pixels)])
    answer = prediction.instances
    assert answer is not None
    kept = answer[answer.scores > 0.5]
    instances = {
        "pred_boxes": kept.pred_boxes.tensor.tolist(),
        "pred_classes": kept.pred_classes.tolist(),
        "scores": kept.scores.tolist(),
    }
    write_golden(tmp_path, [{"image": {"name": "a.jpg"}, "instances": instances}])
    report = check(embedded, golden=tmp_path)
    assert report.golden is not None
    assert report.golden["holds"]
    instances["pred_classes"] = [(one + 1) % 4 for one in instances["pred_classes"]]
    write_golden(tmp_path, [{"image": {"name": "a.jpg"}, "instances": instances}])
    with pytest.raises(ModelError, match="matched is 0"):
        check(embedded, golden=tmp_path)
