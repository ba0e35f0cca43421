"""IoU and accuracy of label maps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.evaluation import (
    EvaluationError,
    SemanticDataset,
    SemanticEvaluator,
    evaluate_semantic,
)

NAMES = ["things", "sky", "road"]
TRUTH = np.array([[0, 0, 0, 0], [1, 1, 255, 255]])
FOUND = np.array([[0, 0, 0, 1], [1, 0, 2, 0]])


def evaluated(*pairs: tuple[Any, Any]) -> Any:
    evaluator = SemanticEvaluator(NAMES)
    for found, truth in pairs:
        evaluator.add(found, truth)
    return evaluator.result()


def test_figures_by_hand() -> None:
    """Of four pixels of things three are found, of two of sky one; each takes one of the other."""
    result = evaluated((FOUND, TRUTH))
    assert result.figures == pytest.approx(
        {
            "mIoU": 100 * (3 / 5 + 1 / 3) / 2,
            "fwIoU": 100 * (3 / 5 * 4 + 1 / 3 * 2) / 6,
            "mACC": 100 * (3 / 4 + 1 / 2) / 2,
            "pACC": 100 * 4 / 6,
        }
    )
    assert result.per_class["things"] == pytest.approx({"IoU": 60, "ACC": 75, "pixels": 4})
    assert result.per_class["road"] == {"IoU": None, "ACC": None, "pixels": 0}
    assert result.confusion == ((3, 1, 0), (1, 1, 0), (0, 0, 0))
    assert (result.images, result.ignored) == (1, 2)


def test_a_class_that_is_only_said_costs_the_others_alone() -> None:
    result = evaluated((np.array([[0, 2]]), np.array([[0, 0]])))
    assert result.figures["mIoU"] == pytest.approx(50)
    assert result.per_class["road"]["IoU"] is None


def test_evaluators_add_up() -> None:
    first, second = SemanticEvaluator(NAMES), SemanticEvaluator(NAMES)
    first.add(FOUND, TRUTH)
    second.add(FOUND[:1], TRUTH[:1])
    first.take(second)
    assert first.result() == evaluated((FOUND, TRUTH), (FOUND[:1], TRUTH[:1]))


def test_pictures_add_up() -> None:
    halves = evaluated((FOUND[:1], TRUTH[:1]), (FOUND[1:], TRUTH[1:]))
    whole = evaluated((FOUND, TRUTH))
    assert halves.figures == whole.figures
    assert (halves.images, whole.images) == (2, 1)


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_counting_pixels_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 255], (7, 9))
    found = rng.integers(0, 3, (7, 9))
    result = evaluated((found, truth))
    pixels = [(t, f) for t, f in zip(truth.flat, found.flat, strict=True) if t != 255]
    ious = []
    for k, name in enumerate(NAMES):
        both = sum(t == k and f == k for t, f in pixels)
        either = sum(t == k or f == k for t, f in pixels)
        there = sum(t == k for t, _ in pixels)
        assert result.per_class[name]["IoU"] == pytest.approx(100 * both / either)
        assert result.per_class[name]["ACC"] == pytest.approx(100 * both / there)
        ious.append(100 * both / either)
    assert result.figures["mIoU"] == pytest.approx(sum(ious) / 3)
    assert result.figures["pACC"] == pytest.approx(100 * np.mean([t == f for t, f in pixels]))


def test_tensors_and_small_integers_are_taken() -> None:
    found = torch.from_numpy(FOUND)
    assert evaluated((found, TRUTH.astype(np.uint8))) == evaluated((FOUND, TRUTH))


def test_all_ignored_has_no_figures() -> None:
    result = evaluated((FOUND, np.full((2, 4), 255)))
    assert set(result.figures.values()) == {None}
    assert result.ignored == 8


def test_another_value_may_be_ignored() -> None:
    evaluator = SemanticEvaluator(NAMES, ignore_value=0)
    evaluator.add(np.array([[1, 1]]), np.array([[1, 0]]))
    assert evaluator.result().figures["pACC"] == 100
    with pytest.raises(EvaluationError, match="the class ids 255; the model has 3 classes"):
        evaluator.add(FOUND, TRUTH)


@pytest.mark.parametrize(
    ("found", "truth", "said"),
    [
        (FOUND, TRUTH + 2, r"The truth of a.png has the class ids 3, 257; the model has 3 classes"),
        (FOUND, TRUTH - 1, "The truth of a.png has the class ids -1, 254"),
        (FOUND + 2, TRUTH, "The prediction of a.png has the class ids 3;"),
        (FOUND[:1], TRUTH, r"is of shape \(1, 4\), the truth of \(2, 4\)"),
        (FOUND[0], TRUTH[0], "both are \\(height, width\\)"),
        (FOUND / 2, TRUTH, "The prediction of a.png is float64"),
    ],
)
def test_maps_that_do_not_fit(found: Any, truth: Any, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        SemanticEvaluator(NAMES).add(found, truth, "a.png")


def test_nothing_to_measure() -> None:
    with pytest.raises(EvaluationError, match="no picture was added"):
        SemanticEvaluator(NAMES).result()
    with pytest.raises(EvaluationError, match="Two classes have one name"):
        SemanticEvaluator(["sky", "sky"])


def test_the_result_is_json() -> None:
    content = json.loads(json.dumps(evaluated((FOUND, TRUTH)).to_dict()))
    assert content["figures"]["mIoU"] == 46.667
    assert content["confusion"][0] == [3, 1, 0]
    assert content["per_class"]["road"]["IoU"] is None


def test_a_data_set_is_evaluated_picture_by_picture(tmp_path: Path) -> None:
    for name in ("labels", "images"):
        (tmp_path / name).mkdir()
    for i in range(2):
        Image.new("RGB", (4, 3), (i, 0, 0)).save(tmp_path / "images" / f"{i}.png")
        Image.new("L", (4, 3), i).save(tmp_path / "labels" / f"{i}.png")
    dataset = SemanticDataset.load(tmp_path / "labels", tmp_path / "images", class_names=NAMES)

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return pixels[:, :, 0]

    steps: list[tuple[int, int]] = []
    result = evaluate_semantic(predict, dataset, progress=lambda *step: steps.append(step))
    assert result.figures["mIoU"] == 100
    assert steps == [(1, 2), (2, 2)]
    Image.new("L", (3, 4)).save(tmp_path / "labels" / "1.png")
    with pytest.raises(EvaluationError, match=r"1.png is 3x4 pixels, its picture 4x3"):
        evaluate_semantic(predict, dataset)
