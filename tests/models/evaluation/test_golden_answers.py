"""Golden answers: which files are read, and when a model's answers hold."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models import Predictor
from models.evaluation import EvaluationError, GoldenAnswers, read_picture
from models.evaluation import golden_answers as module
from models.evaluation.run_lengths import encode_masks
from models.structures import Boxes, Instances, RotatedBoxes

HEIGHT, WIDTH = 100, 120
FIRST, SECOND, LOW = [10.0, 10, 50, 50], [60.0, 20, 100, 90], [5.0, 60, 25, 90]


def found(*rows: tuple[list[float], float, int]) -> Instances:
    """Instances by box, score and class."""
    return Instances(
        (HEIGHT, WIDTH),
        pred_boxes=Boxes(torch.tensor([box for box, _, _ in rows])),
        scores=torch.tensor([score for _, score, _ in rows]),
        pred_classes=torch.tensor([class_id for _, _, class_id in rows], dtype=torch.int64),
    )


ANSWERS = {
    "a.jpg": found((FIRST, 0.9, 0), (SECOND, 0.8, 1), (LOW, 0.3, 1)),
    "b.jpg": found((FIRST, 0.7, 2)),
}


def as_prediction(name: str, instances: Instances) -> dict[str, Any]:
    """As POST /predict writes it."""
    height, width = instances.image_size
    encoded = {
        "box_mode": "XYXY_ABS",
        "pred_boxes": instances.pred_boxes.tensor.tolist(),
        "pred_classes": instances.pred_classes.tolist(),
        "class_names": ["thing"] * len(instances),
        "scores": instances.scores.tolist(),
    }
    if instances.has("pred_masks"):
        encoded["masks"] = encode_masks(instances)
    return {
        "image": {"name": name, "width": width, "height": height},
        "instances": encoded,
        "batch_size": 1,
    }


class Version:
    """A version's folder with golden answers, whose JSON a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "golden").mkdir()
        for name in ANSWERS:
            picture = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
            picture.save(folder / "golden" / name)
        self.content: dict[str, Any] = {
            "request_id": "1",
            "predictions": [as_prediction(*item) for item in ANSWERS.items()],
        }

    def load(self) -> GoldenAnswers:
        (self.folder / "golden.json").write_text(json.dumps(self.content))
        return GoldenAnswers.load(self.folder)

    def verdict(self, **changed: Instances) -> Any:
        """On these answers to ``a`` and ``b``, and the golden ones to the rest."""
        golden = self.load()
        given = {**ANSWERS, **{f"{name}.jpg": answer for name, answer in changed.items()}}
        return golden.verdict(golden.compare(name, answer) for name, answer in given.items())


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return Version(tmp_path)


def figures(verdict: Any) -> dict[str, tuple[float, bool]]:
    return {figure.name: (figure.value, figure.holds) for figure in verdict.figures}


def test_pictures_come_with_their_paths_and_the_tolerance_has_defaults(version: Version) -> None:
    golden = version.load()
    assert [(i.name, i.path.name) for i in golden.images] == [("a.jpg",) * 2, ("b.jpg",) * 2]
    assert read_picture(golden.images[0].path).shape == (HEIGHT, WIDTH, 3)
    assert (golden.tolerance.score, golden.tolerance.box_px) == (0.01, 1.0)
    version.content["tolerance"] = {"score": 0.2, "matched": 0.9}
    assert version.load().tolerance.score == 0.2
    assert version.load().tolerance.box_px == 1.0


def test_the_same_answers_hold(version: Version) -> None:
    verdict = version.verdict()
    assert verdict.holds
    assert verdict.images == 2
    assert figures(verdict) == {"matched": (1, True), "score": (0, True), "box_px": (0, True)}
    assert not verdict.missing
    assert not verdict.unexpected


def test_small_shifts_hold_and_larger_ones_do_not(version: Version) -> None:
    near = [10.5, 10, 50, 50.5]
    assert version.verdict(b=found((near, 0.705, 2))).holds
    verdict = version.verdict(b=found((near, 0.72, 2)))
    assert not verdict.holds
    assert figures(verdict)["score"] == (pytest.approx(0.02, abs=1e-6), False)
    assert figures(verdict)["box_px"] == (0.5, True)
    assert figures(version.verdict(b=found(([12.0, 10, 50, 50], 0.7, 2))))["box_px"] == (2, False)


def test_an_instance_that_is_missing_or_too_many_is_listed(version: Version) -> None:
    verdict = version.verdict(a=ANSWERS["a.jpg"][1:], b=found((FIRST, 0.7, 2), (SECOND, 0.6, 1)))
    assert figures(verdict)["matched"] == (pytest.approx(6 / 8), False)
    assert verdict.missing == (
        {"image": "a.jpg", "class": 0, "score": pytest.approx(0.9), "box": FIRST},
    )
    assert [item["class"] for item in verdict.unexpected] == [1]
    version.content["tolerance"] = {"matched": 0.7}
    assert version.verdict(a=ANSWERS["a.jpg"][1:]).holds


def test_another_class_is_no_counterpart(version: Version) -> None:
    verdict = version.verdict(b=found((FIRST, 0.7, 1)))
    assert not verdict.holds
    assert (len(verdict.missing), len(verdict.unexpected)) == (1, 1)


def test_nothing_found_at_all_does_not_hold(version: Version) -> None:
    nothing = found((FIRST, 0.9, 0))[:0]
    verdict = version.verdict(a=nothing, b=nothing)
    assert figures(verdict)["matched"] == (0, False)


def test_at_the_lowest_score_of_the_file_none_needs_a_counterpart(version: Version) -> None:
    assert version.verdict(a=ANSWERS["a.jpg"][:2]).holds
    low = found((FIRST, 0.7, 2), (SECOND, 0.309, 0), (LOW, 0.1, 1))
    assert version.verdict(b=low).holds
    assert not version.verdict(b=found((FIRST, 0.7, 2), (SECOND, 0.32, 0))).holds


def test_numbers_that_are_not_finite_do_not_hold(version: Version) -> None:
    verdict = version.verdict(b=found((FIRST, torch.nan, 2), ([torch.nan] * 4, 0.9, 2)))
    assert not verdict.holds
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["unexpected"] == [
        {"image": "b.jpg", "class": 2, "score": None, "box": FIRST},
        {"image": "b.jpg", "class": 2, "score": pytest.approx(0.9), "box": [None] * 4},
    ]


def test_a_verdict_as_json(version: Version) -> None:
    content = version.verdict(b=found((FIRST, 0.75, 2))).to_dict()
    assert content["holds"] is False
    assert content["figures"][1] == {
        "name": "score",
        "value": pytest.approx(0.05),
        "bound": "at_most",
        "limit": 0.01,
        "holds": False,
    }
    assert json.dumps(content)


def test_few_instances_are_listed_of_many(version: Version) -> None:
    many = found(*((SECOND, 0.9, 5) for _ in range(50)))
    verdict = version.verdict(a=many)
    assert len(verdict.unexpected) == module.MAX_LISTED
    assert figures(verdict)["matched"][0] == pytest.approx(2 / (2 + 2 + 50))


def test_a_verdict_needs_every_picture_once(version: Version) -> None:
    golden = version.load()
    one = golden.compare("a.jpg", ANSWERS["a.jpg"])
    for given in ([one], [one, one]):
        with pytest.raises(EvaluationError, match="one comparison of each picture"):
            golden.verdict(given)
    with pytest.raises(EvaluationError, match=r"no golden answer to 'c.jpg'"):
        golden.compare("c.jpg", ANSWERS["a.jpg"])


def test_masks_are_held_against_the_golden_ones(version: Version) -> None:
    with_mask = found((FIRST, 0.7, 2))
    with_mask.pred_masks = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    with_mask.pred_masks[0, 10:50, 10:50] = True
    version.content["predictions"][1] = as_prediction("b.jpg", with_mask)
    assert figures(version.verdict(b=with_mask))["mask_iou"] == (1, True)
    other = found((FIRST, 0.7, 2))
    other.pred_masks = with_mask.pred_masks.clone()
    other.pred_masks[0, 10:20] = False
    assert figures(version.verdict(b=other))["mask_iou"] == (pytest.approx(0.75), False)
    with pytest.raises(EvaluationError, match="has masks; the model has no mask head"):
        version.verdict(b=found((FIRST, 0.7, 2)))
    del version.content["predictions"][1]["image"]["width"]
    del version.content["predictions"][1]["image"]["height"]
    assert version.load().answers["b.jpg"].image_size == (HEIGHT, WIDTH)


def test_a_picture_of_another_size(version: Version) -> None:
    other = Instances((HEIGHT, WIDTH + 1), **ANSWERS["b.jpg"].get_fields())
    with pytest.raises(EvaluationError, match="is in \\(100, 120\\) pixels"):
        version.verdict(b=other)
    version.content["predictions"][1]["image"] = {"name": "b.jpg"}
    assert version.verdict(b=other).holds


def test_rotated_boxes(version: Version) -> None:
    prediction = version.content["predictions"][1]["instances"]
    prediction.update(box_mode="XYWHA_ABS", pred_boxes=[[50, 50, 40, 20, 30]])
    turned = Instances(
        (HEIGHT, WIDTH),
        pred_boxes=RotatedBoxes(torch.tensor([[50.0, 50, 40, 20, 30.5]])),
        scores=torch.tensor([0.7]),
        pred_classes=torch.tensor([2]),
    )
    assert version.verdict(b=turned).holds
    turned.pred_boxes.tensor[0, 4] = 35
    assert figures(version.verdict(b=turned))["box_px"] == (5, False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../golden.json", "leads out"),
        ("/etc/passwd", "leads out"),
        ("link.jpg", "a link out"),
        ("c.jpg", "answer to 'golden/c.jpg', which is not there"),
        ("pipe.jpg", "which is not there"),
        ("a.jpg", "two answers to 'a.jpg'"),
        (None, "no name of a file"),
    ],
)
def test_pictures_that_are_not_in_their_folder(version: Version, name: Any, said: str) -> None:
    (version.folder / "outside.jpg").write_bytes(b"")
    (version.folder / "golden" / "link.jpg").symlink_to(version.folder / "outside.jpg")
    os.mkfifo(version.folder / "golden" / "pipe.jpg")
    version.content["predictions"][1]["image"]["name"] = name
    with pytest.raises(EvaluationError, match=said):
        version.load()


def test_a_folder_that_is_a_link_out(version: Version, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "golden"
    (version.folder / "golden").rename(elsewhere)
    (version.folder / "golden").symlink_to(elsewhere)
    with pytest.raises(EvaluationError, match="a link out of the version's folder"):
        version.load()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pred_boxes": [[1, 2, 3]]}, "lists of one length, of 4 numbers"),
        ({"pred_boxes": [[1, 2, 3, float("nan")]]}, "lists of one length"),
        ({"pred_boxes": [[1, 2, 3, 10**400]]}, "lists of one length"),
        ({"pred_boxes": []}, "lists of one length"),
        ({"pred_classes": [1.5]}, "lists of one length"),
        ({"pred_classes": [-1]}, "lists of one length"),
        ({"pred_classes": [2**40]}, "lists of one length"),
        ({"scores": ["0.5"]}, "lists of one length"),
        ({"scores": None}, "lists of one length"),
        ({"box_mode": "XYWH_ABS"}, "a box_mode other than XYXY_ABS and XYWHA_ABS"),
        ({"box_mode": "XYWHA_ABS"}, "of 5 numbers"),
        ({"masks": []}, "one for each instance"),
        ({"masks": ["mask"]}, "an object with size and counts"),
        ({"masks": [{"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}]}, "counts are no text"),
        ({"masks": [{"size": [1, 1], "counts": "1"}]}, r"its size is not \[100, 120\]"),
        ({"masks": [{"size": [HEIGHT, WIDTH], "counts": "1"}]}, "its runs cover 1 of 12000"),
    ],
)
def test_instances_that_cannot_be(version: Version, change: dict[str, Any], said: str) -> None:
    version.content["predictions"][1]["instances"].update(change)
    with pytest.raises(EvaluationError, match=said) as caught:
        version.load()
    assert caught.value.message.startswith("golden.json, 'b.jpg'")


def test_predictions_that_are_none(version: Version) -> None:
    version.content["predictions"][1] = {"image": {"name": "b.jpg"}, "error": {"code": "x"}}
    with pytest.raises(EvaluationError, match=r"'b.jpg' has no instances"):
        version.load()
    for value in (["b.jpg"], [{"image": "b.jpg"}], [{}]):
        version.content["predictions"] = value
        with pytest.raises(EvaluationError, match="no name of a file"):
            version.load()
    for value in (None, {}, []):
        version.content["predictions"] = value
        with pytest.raises(EvaluationError, match="has no instances in its predictions"):
            version.load()


@pytest.mark.parametrize(
    ("tolerance", "said"),
    [
        ([], "an object with some of score, box_px, matched, mask_iou"),
        ({"scores": 1}, "an object with some of"),
        ({"score": -0.1}, "The tolerance score in golden.json cannot be -0.1"),
        ({"matched": 1.1}, "The tolerance matched"),
        ({"box_px": float("inf")}, "The tolerance box_px"),
        ({"score": True}, "The tolerance score"),
    ],
)
def test_tolerances_that_cannot_be(version: Version, tolerance: Any, said: str) -> None:
    version.content["tolerance"] = tolerance
    with pytest.raises(EvaluationError, match=said):
        version.load()


def test_a_file_that_is_missing_or_too_large(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EvaluationError, match=r"golden\.json cannot be read"):
        GoldenAnswers.load(version.folder)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(EvaluationError, match="over 100 bytes"):
        version.load()


def test_the_embedded_model_holds_its_own_answers(
    shapes_predictor: Predictor, shapes_picture: np.ndarray, tmp_path: Path
) -> None:
    found = shapes_predictor(shapes_picture)
    (tmp_path / "golden").mkdir()
    Image.fromarray(shapes_picture).save(tmp_path / "golden" / "shapes.png")
    content = {"predictions": [as_prediction("shapes.png", found)]}
    (tmp_path / "golden.json").write_text(json.dumps(content))
    golden = GoldenAnswers.load(tmp_path)
    answer = shapes_predictor(read_picture(golden.images[0].path))
    verdict = golden.verdict([golden.compare("shapes.png", answer)])
    assert verdict.holds
    assert [figure.name for figure in verdict.figures] == ["matched", "score", "box_px", "mask_iou"]
    assert not golden.verdict([golden.compare("shapes.png", answer[1:])]).holds
