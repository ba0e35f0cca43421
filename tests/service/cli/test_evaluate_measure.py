"""Measuring for detserve evaluate: kinds of models that it refuses, maps, hints, and its tables."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from coco_files import DatasetFiles
from PIL import Image
from rich.console import Console
from small_models import write_small_model
from typer.testing import CliRunner

from models.evaluation import CocoDataset, DetailedResult, EvaluationError
from models.evaluation.panoptic_dataset import PanopticDataset
from models.evaluation.semantic_dataset import SemanticDataset
from models.structures import Boxes, Instances, RotatedBoxes
from service.cli.evaluate_command import evaluate
from service.cli.evaluate_local import LocalModel, named_files
from service.cli.evaluate_measure import (
    finest,
    hints,
    measure,
    measure_panoptic,
    measure_semantic,
)
from service.cli.evaluate_outcome import Outcome
from service.cli.evaluate_sources import Picture, Subject
from service.cli.evaluate_tables import show
from service.inference.detector import Prediction

SUBJECT = Subject(
    title="fake [bold]",
    class_names=("cat", "dog"),
    stuff_class_names=(),
    outputs=("instances",),
    score_threshold=0.05,
    input_format="BGR",
    has_tta=False,
    takes_proposals=False,
)


@dataclass
class FakeSource:
    """Finds one box of class 0 in every picture."""

    subject: Subject = SUBJECT
    box: tuple[float, float, float, float] = (10, 10, 30, 30)
    rotated: bool = False
    asked: list[str] = field(default_factory=list)

    def answers(self, pictures: Sequence[Picture], tta: str) -> Iterator[Prediction]:
        self.asked.append(tta)
        for picture in pictures:
            assert picture.size is not None
            boxes = torch.tensor([self.box])
            yield Prediction(
                instances=Instances(
                    picture.size,
                    pred_boxes=(
                        RotatedBoxes(torch.cat((boxes, torch.zeros(1, 1)), dim=1))
                        if self.rotated
                        else Boxes(boxes)
                    ),
                    scores=torch.tensor([0.9]),
                    pred_classes=torch.tensor([0]),
                )
            )

    def close(self) -> None:
        pass


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    return DatasetFiles(tmp_path).load()


def measured(source: FakeSource, dataset: CocoDataset) -> DetailedResult:
    return measure(
        source,
        dataset,
        tta="none",
        score_threshold=0.5,
        iou_threshold=0.5,
        progress=lambda done, of: None,
    )


def test_progress_is_told_of_each_picture(dataset: CocoDataset) -> None:
    told: list[tuple[int, int]] = []
    source = FakeSource()
    measure(
        source,
        dataset,
        tta="flip",
        score_threshold=0.5,
        iou_threshold=0.5,
        progress=lambda done, of: told.append((done, of)),
    )
    assert told == [(1, 2), (2, 2)]
    assert source.asked == ["flip"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"outputs": ("sem_seg",)}, "give --semantic-data in the place of --data"),
        ({"outputs": ("proposals",)}, "answers with proposals and no instances"),
        ({"takes_proposals": True}, "takes its proposals with each picture"),
        ({"class_names": ("cat", "bird")}, "has the categories dog, cat"),
    ],
)
def test_a_model_that_cannot_be_measured_is_a_sentence_before_it_is_asked(
    dataset: CocoDataset, changes: dict[str, object], part: str
) -> None:
    source = FakeSource(replace(SUBJECT, **changes))  # type: ignore[arg-type]  # fields of any type
    with pytest.raises(EvaluationError, match=part):
        measured(source, dataset)
    assert source.asked == []


def test_rotated_boxes_are_a_sentence(dataset: CocoDataset) -> None:
    with pytest.raises(EvaluationError, match="rotated boxes, which COCO AP is not defined for"):
        measured(FakeSource(rotated=True), dataset)


def test_a_model_that_finds_the_right_thing_gets_no_hints(dataset: CocoDataset) -> None:
    detail = measured(FakeSource(), dataset)
    assert finest(detail)[0] == "bbox"
    assert hints(detail, SUBJECT, dataset) == []


def test_a_model_that_finds_nothing_right_gets_hints(dataset: CocoDataset) -> None:
    detail = measured(FakeSource(box=(50, 30, 60, 40)), dataset)
    subject = replace(SUBJECT, facts=(("checkpoint", "7 tensors, all of the model's"),))
    found = " ".join(hints(detail, subject, dataset))
    for part in (
        "2 detections, and next to none is right",
        "--images",
        "the model has cat, dog; the data set has dog, cat",
        "matched by name",
        "INPUT.FORMAT is BGR",
        "it filled 7 tensors",
    ):
        assert part in found


def test_without_annotations_there_is_nothing_to_hint_at(dataset: CocoDataset) -> None:
    empty = replace(dataset, annotations=())
    assert hints(measured(FakeSource(), empty), SUBJECT, empty) == []


def shown(outcome: Outcome) -> str:
    file = io.StringIO()
    show(outcome, Console(width=200, file=file))
    return file.getvalue()


def test_the_terminal_shows_figures_classes_and_the_change(dataset: CocoDataset) -> None:
    plain, worse = measured(FakeSource(), dataset), measured(FakeSource(box=(0, 0, 5, 5)), dataset)
    outcome = Outcome(SUBJECT, "plain", dataset, ways=[("plain", plain), ("TTA flip", worse)])
    text = shown(outcome)
    assert "fake [bold]" in text
    assert "set.json: 2 images, 3 instances, 2 detections" in text
    change = (worse.result.ap("bbox") or 0) - (plain.result.ap("bbox") or 0)
    assert f"{change:+.2f}" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("cat", "dog"))] == [
        "dog",
        "cat",
    ]


def test_of_many_classes_the_worst_are_shown(dataset: CocoDataset) -> None:
    detail = measured(FakeSource(), dataset)
    row = detail.per_class["bbox"]["cat"]
    many = {f"class {i}": {**row, "AP": float(i)} for i in reversed(range(40))}
    outcome = Outcome(
        SUBJECT, "plain", dataset, [("plain", replace(detail, per_class={"bbox": many}))]
    )
    text = shown(outcome)
    assert "class 19 " in text
    assert "class 20 " not in text
    assert "... and 20 classes more, in the report" in text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of noise."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, size in (("a", (96, 128)), ("b", (100, 90))):
        coarse = random.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size[::-1]).save(folder / f"{name}.png")
    return folder


def small(name: str, folder: Path) -> LocalModel:
    config, weights = write_small_model(name, folder)
    found = named_files(config, None, weights, None)
    return LocalModel.load(found, device="cpu", mode="reference")


def test_semantic_maps_that_are_the_truth_are_100(folder: Path, tmp_path: Path) -> None:
    model = small("semantic", tmp_path)
    labels = tmp_path / "labels"
    labels.mkdir()
    pictures = [Picture(path) for path in sorted(folder.glob("*.png"))]
    for picture, answer in zip(pictures, model.answers(pictures, "none"), strict=True):
        assert answer.sem_seg is not None
        Image.fromarray(answer.sem_seg.numpy().astype(np.uint8)).save(labels / picture.path.name)
    names = model.subject.stuff_class_names
    dataset = SemanticDataset.load(labels, folder, class_names=names)
    result = measure_semantic(model, dataset, progress=lambda done, of: None)
    assert result.figures["mIoU"] == pytest.approx(100)
    with pytest.raises(EvaluationError, match="has no panoptic_seg; leave --panoptic-data out"):
        measure_panoptic(model, PanopticDataset("x", (), {}, frozenset()), progress=lambda *_: None)


def write_as_truth(model: LocalModel, folder: Path, out: Path) -> None:
    """What a panoptic model says of the pictures, as ``panoptic.json``, ``maps`` and ``labels``."""
    things = len(model.subject.class_names)
    names = [*model.subject.class_names, *model.subject.stuff_class_names[1:]]
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for name in ("maps", "labels"):
        (out / name).mkdir()
    paths = sorted(folder.glob("*.png"))
    answers = model.answers([Picture(path) for path in paths], "none")
    for number, (path, answer) in enumerate(zip(paths, answers, strict=True), start=1):
        assert answer.panoptic_seg is not None
        assert answer.sem_seg is not None
        ids, segments = answer.panoptic_seg
        rgb = np.zeros((*ids.shape, 3), np.uint8)
        rgb[..., 0] = ids.numpy()
        Image.fromarray(rgb).save(out / "maps" / path.name)
        Image.fromarray(answer.sem_seg.numpy().astype(np.uint8)).save(out / "labels" / path.name)
        height, width = ids.shape
        images.append({"id": number, "file_name": path.name, "height": height, "width": width})
        info = [
            {
                "id": segment["id"],
                "category_id": segment["category_id"] + (1 if segment["isthing"] else things),
            }
            for segment in segments
        ]
        annotations.append({"image_id": number, "file_name": path.name, "segments_info": info})
    categories = [
        {"id": i, "name": name, "isthing": int(i <= things)} for i, name in enumerate(names, 1)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (out / "panoptic.json").write_text(json.dumps(content))


def test_panoptic_maps_that_are_the_truth_are_100(folder: Path, tmp_path: Path) -> None:
    model = small("panoptic", tmp_path)
    write_as_truth(model, folder, tmp_path)
    dataset = PanopticDataset.load(tmp_path / "panoptic.json", tmp_path / "maps", folder)
    result = measure_panoptic(model, dataset, progress=lambda done, of: None)
    assert result.figures["all"]["PQ"] == pytest.approx(100)
    assert (result.figures["all"]["classes"] or 0) > 0


def test_the_command_measures_both_kinds_of_maps(folder: Path, tmp_path: Path) -> None:
    write_as_truth(small("panoptic", tmp_path), folder, tmp_path)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(evaluate)
    arguments = [
        *("--config", tmp_path / "config.yaml", "--weights", tmp_path / "model_final.pth"),
        *("--panoptic-data", tmp_path / "panoptic.json", tmp_path / "maps"),
        *("--semantic-data", tmp_path / "labels", "--images", folder),
        *("--out", tmp_path / "out", "--device", "cpu", "--mode", "reference"),
    ]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "metrics.json").read_bytes())
    assert content["panoptic"]["figures"]["all"]["PQ"] == 100
    assert content["semantic"]["figures"]["mIoU"] == 100
    assert "instances" not in content
    assert result.output.count("100.00") >= 2
    report = (tmp_path / "out" / "report.html").read_text()
    assert 'id="panoptic"' in report
    assert 'id="semantic"' in report
    assert not (tmp_path / "out" / "results.json").exists()
