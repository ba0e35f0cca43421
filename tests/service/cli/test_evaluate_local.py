"""Which files detserve evaluate takes a name for, and how it asks a model."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_detector import FakeDetector, pixels
from PIL import Image

from models.evaluation import EvaluationError
from service.cli import evaluate_local
from service.cli.evaluate_local import LocalModel, embedded_model, find_model, named_files
from service.cli.evaluate_sources import Picture
from service.errors import ApiError
from service.repository.disk.adding import add_version
from service.repository.disk.changing import promote
from service.repository.disk.folder import RepositoryFolder
from service.settings import PRETRAINED

CONFIG, WEIGHTS = PRETRAINED / "config.yaml", PRETRAINED / "model_final.pth"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Versions 1 and 2 of the model shapes, of which 1 is current."""
    root = tmp_path / "repository"
    root.mkdir()
    model = RepositoryFolder(root).create_model("shapes")
    for label in ("1", "2"):
        add_version(model, label, weights=WEIGHTS, config=CONFIG)
    promote(model, "1")
    return root


def test_the_embedded_model_is_taken_where_nothing_is_named() -> None:
    assert embedded_model().source.weights == WEIGHTS


def test_files_are_taken_as_they_are_named(tmp_path: Path) -> None:
    found = named_files(CONFIG, None, WEIGHTS, tmp_path / "l.txt")
    assert (found.source.config, found.source.labels) == (CONFIG, tmp_path / "l.txt")
    assert found.title == "shapes/model_final.pth"


@pytest.mark.parametrize(
    ("name", "label"),
    [("shapes", "1"), ("shapes/2", "2"), ("shapes:2", "2"), ("shapes/latest", "2")],
)
def test_a_model_of_the_repository_by_name(repository: Path, name: str, label: str) -> None:
    found = find_model(name, repository)
    assert found.title == f"shapes, version {label}"
    assert found.source.weights.parent == repository / "shapes" / label


def test_a_folder_is_a_model_a_version_or_a_training(repository: Path, tmp_path: Path) -> None:
    assert find_model(str(repository / "shapes"), None).title == "shapes, version 1"
    assert find_model(str(repository / "shapes" / "2"), None).title == "shapes, version 2"
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(CONFIG, folder)
    for name in ("model_final.pth", "model_best.pth"):
        (folder / name).touch()
    found = find_model(str(folder), None)
    assert (found.title, found.source.weights.name) == ("run", "model_final.pth")
    assert found.source.config == folder / "config.yaml"
    best = find_model(str(folder / "model_best.pth"), None)
    assert (best.title, best.source.weights.name) == ("run, model_best.pth", "model_best.pth")


def test_without_a_current_version_the_newest_is_taken(repository: Path) -> None:
    (repository / "shapes" / "state.json").unlink()
    assert find_model(str(repository / "shapes"), None).title == "shapes, version 2"


def test_a_folder_without_a_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="neither a weights file nor a complete version"):
        find_model(str(tmp_path), None)


def test_several_checkpoints_without_a_final_one_have_to_be_named(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    with pytest.raises(ApiError, match=r"2 weights files, a.pth, b.pth; name the file itself"):
        find_model(str(tmp_path), None)


def test_an_unknown_model_of_a_repository_is_a_sentence(repository: Path) -> None:
    with pytest.raises(ApiError, match=r"There is no model 'cars'; there are: shapes\."):
        find_model("cars", repository)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    """Marks 0 to 9; number 4 has another size."""
    found = []
    for mark in range(10):
        size = (40, 100) if mark == 4 else (32, 32)
        path = tmp_path / f"{mark}.png"
        Image.fromarray(pixels(mark, size)).save(path)
        found.append(Picture(path, size))
    return found


def test_answers_come_in_the_order_of_the_pictures(pictures: list[Picture]) -> None:
    detector = FakeDetector()
    answers = LocalModel(detector, "fake").answers(pictures, "none")
    marks = [float(answer.instances.pred_boxes.tensor[0, 1]) / 0.125 for answer in answers]
    assert marks == list(range(10))
    assert detector.batches == [[mark] for mark in range(10)]


def test_a_gpu_gets_pictures_of_one_size_together(pictures: list[Picture]) -> None:
    detector = FakeDetector(device="cuda:0")
    assert len(list(LocalModel(detector, "fake").answers(pictures, "none"))) == 10
    assert detector.batches == [[0, 1, 2, 3], [4], [5, 6, 7, 8, 9]]


def test_the_threads_are_as_they_were(pictures: list[Picture]) -> None:
    before = torch.get_num_threads()
    list(LocalModel(FakeDetector(), "fake").answers(pictures[:2], "none"))
    assert torch.get_num_threads() == before


def test_a_picture_of_another_size_ends_it(pictures: list[Picture]) -> None:
    wrong = Picture(pictures[1].path, (31, 32))
    with pytest.raises(EvaluationError, match=r"1\.png is 32x32 pixels, but should be 32x31"):
        list(LocalModel(FakeDetector(), "fake").answers([pictures[0], wrong], "none"))


def test_tta_that_a_model_has_not_is_a_sentence(pictures: list[Picture]) -> None:
    with pytest.raises(ApiError, match="no test-time augmentation"):
        list(LocalModel(FakeDetector(), "fake").answers(pictures, "flip"))


def test_the_subject_tells_what_the_model_is() -> None:
    subject = LocalModel(FakeDetector(score_threshold=0.2), "fake", [("more", "text")]).subject
    assert (subject.title, subject.score_threshold, subject.has_tta) == ("fake", 0.2, False)
    facts = dict(subject.facts)
    assert facts["architecture"] == "FakeRCNN, Fake-1 FPN"
    assert facts["more"] == "text"


def test_a_batch_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    detector = FakeDetector(device="cuda:0")
    list(LocalModel(detector, "fake").answers([Picture(path)] * 20, "none"))
    assert [len(batch) for batch in detector.batches] == [evaluate_local.BATCH] * 2 + [4]


def test_a_batch_is_bounded_in_pixels(
    pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_local, "BATCH_PIXELS", 3 * 32 * 32)
    detector = FakeDetector(device="cuda:0")
    list(LocalModel(detector, "fake").answers(pictures[:4], "none"))
    assert detector.batches == [[0, 1, 2], [3]]
