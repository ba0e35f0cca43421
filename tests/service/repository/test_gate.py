"""The gate: what a validation set says of a version, and what follows from it."""

import asyncio
import gc
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_files import DatasetFiles
from fake_detector import PATIENCE_S, FakeDetector, picture
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from numpy.typing import NDArray

from models.structures import Boxes, Instances
from service.errors import ApiError, Forbidden, Unprocessable
from service.inference.detector import Prediction, PreparedImage, at_once
from service.inference.loading import load_torch_detector
from service.inference.torch_detector import TorchDetector
from service.repository.gate import Figures, GateRun
from service.repository.model_settings import Gate
from service.repository.version import ModelVersion
from service.settings import PRETRAINED

CLASSES = ("cat", "dog")
SHAPES = Path(__file__).parents[2] / "data" / "shapes"
# As DatasetFiles writes them: by the picture's height, boxes with their classes.
TRUTH = {40: [([10, 10, 30, 30], 0), ([30, 5, 40, 35], 1)], 50: [([0, 0, 40, 40], 1)]}
PICTURES = len(TRUTH)


class Finder(FakeDetector):
    """Finds what is there in the pictures of these heights, and nothing in the others.

    Attributes:
        knows: the heights.
        finds: class ids; the others it misses.
        measured: heights of the pictures of the set that it was asked about.
        preparing: is told the height of every picture, on the thread that prepares it.
    """

    def __init__(
        self,
        number: int = 1,
        *,
        knows: tuple[int, ...] = (40, 50),
        finds: tuple[int, ...] = (0, 1),
        **how: Any,
    ) -> None:
        super().__init__(number, **({"class_names": CLASSES, "task": "object_detection"} | how))
        self.knows, self.finds = knows, finds
        self.measured: list[int] = []
        self.preparing: Callable[[int], None] = lambda height: None
        self.predicts = self._look

    def prepare(self, pixels: NDArray[np.uint8], **how: Any) -> PreparedImage:
        self.preparing(len(pixels))
        return super().prepare(pixels, **how)

    def _look(self, image: PreparedImage) -> Prediction:
        if image.height in TRUTH:
            self.measured.append(image.height)
        truth = TRUTH.get(image.height, []) if image.height in self.knows else []
        truth = [(box, c) for box, c in truth if c in self.finds]
        found = Instances((image.height, image.width))
        found.pred_boxes = Boxes(torch.tensor([box for box, _ in truth]).reshape(-1, 4).float())
        found.scores = torch.full((len(truth),), 0.9)
        found.pred_classes = torch.tensor([c for _, c in truth], dtype=torch.int64)
        if "masks" in self.description.outputs:
            found.pred_masks = torch.ones(len(truth), 1, 4, 4)
        if "keypoints" in self.description.outputs:
            x = found.pred_boxes.tensor[:, None, :2] + torch.arange(17.0)[:, None] + 0.5
            found.pred_keypoints = torch.cat((x, torch.ones(len(truth), 17, 1)), dim=2)
        return Prediction(instances=found)


class Bench:
    """A data set, and gates that are run on it at once."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.files = DatasetFiles(folder)
        self.files.load()
        self.known = Figures()
        self.told: list[tuple[int, int]] = []

    def gate(self, **how: Any) -> GateRun:
        return GateRun.under(Gate(dataset="set.json", **how), self.root, self.root)

    def run(
        self, detector: FakeDetector, current: FakeDetector | None = None, **how: Any
    ) -> dict[str, Any]:
        version = ModelVersion("shapes", "1", current) if current is not None else None
        return self.gate(**how).run(
            detector,
            version,
            call=at_once,
            progress=lambda done, of: self.told.append((done, of)),
            known=self.known,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def impossible(caught: pytest.ExceptionInfo[ApiError]) -> str:
    error = caught.value
    assert (error.status, error.code) == (422, "gate_impossible")
    return error.message


# --- what is required -----------------------------------------------------------------------------


def test_a_version_that_finds_everything_passes_with_its_figures(bench: Bench) -> None:
    table = bench.run(Finder(), min_ap=99.9)
    assert (table["passed"], table["failures"]) == (True, [])
    assert (table["iou_type"], table["ap"], table["current_ap"]) == ("bbox", 100.0, None)
    assert table["candidate"]["per_class"]["bbox"] == {"dog": 100.0, "cat": 100.0}
    assert (table["candidate"]["images"], table["candidate"]["detections"]) == (PICTURES, 3)
    assert table["current"] is None
    GateRun.require_passed(table)


def test_one_that_is_below_the_minimum_fails_with_the_figures(bench: Bench) -> None:
    table = bench.run(Finder(knows=(40,)), min_ap=80)
    assert 0 < table["ap"] < 80
    with pytest.raises(Unprocessable) as caught:
        GateRun.require_passed(table)
    assert caught.value.code == "gate_failed"
    assert f"bbox AP is {table['ap']:.2f}; at least 80 is required" in caught.value.message
    assert caught.value.details == {"gate": table}
    assert json.loads(json.dumps(table)) == table


def test_weights_that_detect_nothing_fail(bench: Bench) -> None:
    table = bench.run(Finder(knows=()), min_ap=1)
    assert (table["ap"], table["candidate"]["detections"]) == (0.0, 0)
    assert table["failures"] == ["bbox AP is 0.00; at least 1 is required"]


def test_without_a_bound_the_figures_are_only_told(bench: Bench) -> None:
    table = bench.run(Finder(knows=()), Finder(2))
    assert (table["passed"], table["ap"], table["current"]) == (True, 0.0, None)


def test_a_drop_below_the_current_version_fails_with_both_figures(bench: Bench) -> None:
    table = bench.run(Finder(2, knows=(40,)), Finder(), max_drop=5)
    assert table["current_ap"] == 100.0
    assert table["current"]["figures"]["bbox"]["AP"] == 100.0
    [failure] = table["failures"]
    drop = 100 - table["ap"]
    assert failure == (
        f"bbox AP drops by {drop:.2f}, from 100.00 to {table['ap']:.2f}; at most 5 is allowed"
    )


def test_a_drop_to_nothing_fails(bench: Bench) -> None:
    assert not bench.run(Finder(2, knows=()), Finder(), max_drop=99)["passed"]


def test_a_drop_of_just_what_is_allowed_passes(bench: Bench) -> None:
    drop = 100 - bench.run(Finder(2, knows=(40,)))["ap"]
    assert bench.run(Finder(2, knows=(40,)), Finder(), max_drop=round(drop, 3))["passed"]


def test_a_better_version_passes(bench: Bench) -> None:
    assert bench.run(Finder(2), Finder(knows=(40,)), max_drop=0)["passed"]


def test_the_first_version_has_nothing_to_drop_from(bench: Bench) -> None:
    table = bench.run(Finder(knows=()), max_drop=0)
    assert (table["passed"], table["current_ap"]) == (True, None)


def test_both_bounds_are_told(bench: Bench) -> None:
    table = bench.run(Finder(2, knows=()), Finder(), min_ap=50, max_drop=10)
    assert len(table["failures"]) == 2


def test_a_set_without_annotations_is_not_measurable(bench: Bench) -> None:
    bench.files.content["annotations"] = []
    bench.files.load()
    table = bench.run(Finder(2), Finder(), max_drop=0)
    assert not table["passed"]
    assert "has nothing to measure it by" in table["failures"][0]
    table = bench.run(Finder(), min_ap=0)
    assert table["failures"] == ["bbox AP is not measurable; at least 0 is required"]


# --- how much is measured -------------------------------------------------------------------------


def test_the_first_pictures_alone_are_measured_if_the_gate_says_so(bench: Bench) -> None:
    detector = Finder(knows=(40,))
    assert bench.run(detector, max_images=1)["ap"] == 100.0
    assert detector.measured == [40]


def test_progress_goes_from_0_to_1_over_both_versions(bench: Bench) -> None:
    bench.run(Finder(2), Finder(), max_drop=1)
    parts = [done / of for done, of in bench.told]
    assert parts == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_progress_ends_at_1_where_all_is_known(bench: Bench) -> None:
    detector = Finder()
    bench.run(detector)
    bench.told.clear()
    bench.run(detector)
    assert bench.told == [(1, 1)]


def test_the_current_version_is_measured_once(bench: Bench) -> None:
    current = Finder()
    for number in (2, 3):
        bench.run(Finder(number), current, max_drop=1)
    assert len(current.measured) == PICTURES


def test_what_was_measured_as_the_new_one_is_known_once_it_is_the_current_one(bench: Bench) -> None:
    detector = Finder()
    bench.run(detector, min_ap=1)
    bench.run(Finder(2), detector, max_drop=1)
    assert len(detector.measured) == PICTURES


def test_the_same_weights_with_another_config_are_measured_anew(bench: Bench) -> None:
    same = {"weights_sha256": "0" * 64}
    table = bench.run(Finder(knows=(), **same), Finder(**same), max_drop=1)
    assert (table["ap"], table["current_ap"]) == (0.0, 100.0)


def test_another_content_of_the_set_is_measured_anew(bench: Bench) -> None:
    detector = Finder()
    bench.run(detector)
    bench.files.content["annotations"].append(
        bench.files.annotation(3, 8, 5, [20, 20, 20, 20])  # which it does not find
    )
    bench.files.load()
    assert bench.run(detector)["ap"] < 100
    assert len(detector.measured) == 2 * PICTURES


def test_figures_go_with_their_version(bench: Bench) -> None:
    bench.run(Finder())
    gc.collect()
    assert len(bench.known) == 0


# --- what is compared -----------------------------------------------------------------------------

MASKS = {"outputs": ("instances", "masks")}
KEYPOINTS = {"outputs": ("instances", "keypoints")}


def with_keypoints(bench: Bench) -> None:
    """Annotate keypoints as :class:`Finder` finds them."""
    for annotation in bench.files.content["annotations"]:
        x, y = annotation["bbox"][:2]
        points = [value for i in range(17) for value in (x + i, y + i, 2)]
        annotation |= {"keypoints": points, "num_keypoints": 17}
    bench.files.load()


@pytest.mark.parametrize(
    ("outputs", "kind"), [({}, "bbox"), (MASKS, "segm"), (KEYPOINTS, "keypoints")]
)
def test_the_finest_output_is_compared(bench: Bench, outputs: dict[str, Any], kind: str) -> None:
    with_keypoints(bench)
    table = bench.run(Finder(**outputs))
    assert table["iou_type"] == kind
    assert list(table["candidate"]["figures"]) == [kind]
    assert table["ap"] > 99


def test_the_gate_may_choose_another(bench: Bench) -> None:
    assert bench.run(Finder(**MASKS), iou_type="bbox")["iou_type"] == "bbox"


@pytest.mark.parametrize("boxes_alone", ["new", "current"])
def test_two_versions_are_compared_by_the_finest_that_both_have(
    bench: Bench, boxes_alone: str
) -> None:
    new, current = Finder(2), Finder(**MASKS)
    pair = (new, current) if boxes_alone == "new" else (current, new)
    assert bench.run(*pair, max_drop=1)["iou_type"] == "bbox"


def test_in_advance_all_that_the_current_version_has_is_measured_in_one_pass(bench: Bench) -> None:
    current = Finder(**MASKS)
    version = ModelVersion("shapes", "1", current)
    bench.gate(max_drop=1).measure(version, call=at_once, known=bench.known)
    assert len(current.measured) == PICTURES
    bench.run(Finder(2), current, max_drop=1)
    bench.run(Finder(3, **MASKS), current, max_drop=1)
    bench.gate(max_drop=1).measure(version, call=at_once, known=bench.known)
    assert len(current.measured) == PICTURES


def test_nothing_is_measured_in_advance_that_nothing_is_compared_with(bench: Bench) -> None:
    current = Finder()
    version = ModelVersion("shapes", "1", current)
    bench.gate(min_ap=1).measure(version, call=at_once, known=bench.known)
    assert current.measured == []


# --- a gate that cannot be run --------------------------------------------------------------------


def test_a_set_of_other_classes_is_impossible_and_both_lists_are_told(bench: Bench) -> None:
    with pytest.raises(Unprocessable) as caught:
        bench.run(Finder(class_names=("car", "bus")))
    message = impossible(caught)
    assert "on the new version: set.json has the categories dog, cat" in message
    assert "the model has the classes car, bus" in message
    assert caught.value.details["classes"] == ["car", "bus"]


def test_a_version_that_was_taught_more_is_compared_by_what_both_know(bench: Bench) -> None:
    """The cat was there already, the dog is new: only the cat can be forgotten."""
    current = Finder(class_names=("cat",), finds=(0,))
    table = bench.run(Finder(2), current, max_drop=0)
    assert (table["passed"], table["ap"]) == (True, 100.0)
    assert table["current"]["per_class"]["bbox"] == {"dog": 0.0, "cat": 100.0}


def test_what_a_new_class_brings_does_not_make_up_for_a_forgotten_one(bench: Bench) -> None:
    current = Finder(class_names=("cat",), finds=(0,))
    table = bench.run(Finder(2, finds=(1,)), current, max_drop=5)
    assert table["ap"] == table["current_ap"] == 50.0
    (failure,) = table["failures"]
    assert failure.startswith(
        "bbox AP of the classes that the current version knows drops by 100.00"
    )


def test_it_is_told_if_it_is_the_current_version_that_does_not_fit(bench: Bench) -> None:
    with pytest.raises(Unprocessable) as caught:
        bench.run(Finder(2), Finder(class_names=("car", "bus")), max_drop=1)
    assert "on the current version" in impossible(caught)


@pytest.mark.parametrize("described", [{"outputs": ("sem_seg",)}, {"takes_proposals": True}])
def test_a_model_without_instances_of_its_own_has_no_gate(
    bench: Bench, described: dict[str, Any]
) -> None:
    with pytest.raises(Unprocessable) as caught:
        bench.run(Finder(**described), min_ap=1)
    assert "leave the gate out" in impossible(caught)
    with pytest.raises(Unprocessable) as caught:
        bench.run(Finder(2), Finder(**described), max_drop=1)
    assert "leave max_drop out" in impossible(caught)


def test_annotations_that_lack_what_is_compared_are_impossible(bench: Bench) -> None:
    for annotation in bench.files.content["annotations"]:
        del annotation["segmentation"]
    bench.files.load()
    with pytest.raises(Unprocessable) as caught:
        bench.run(Finder(**MASKS))
    assert "annotations without segmentation" in impossible(caught)
    assert bench.run(Finder(**MASKS), iou_type="bbox")["ap"] == 100.0


def test_a_set_that_is_not_there_is_impossible(bench: Bench) -> None:
    bench.files.path.unlink()
    with pytest.raises(Unprocessable) as caught:
        bench.run(Finder())
    assert "set.json cannot be read" in impossible(caught)


def test_a_picture_that_is_not_there_is_impossible(bench: Bench) -> None:
    (bench.root / "set" / "one.png").unlink()
    with pytest.raises(Unprocessable) as caught:
        bench.run(Finder())
    assert "one.png" in impossible(caught)


@pytest.mark.parametrize("key", ["dataset", "images"])
@pytest.mark.parametrize("path", ["../secret.json", "/etc/passwd", "link/secret.json"])
def test_paths_outside_of_the_root_are_forbidden(tmp_path: Path, key: str, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.json").write_text("{}")
    (root / "link").symlink_to(tmp_path)
    gate = Gate(**({"dataset": "set.json"} | {key: path}))
    with pytest.raises(Forbidden) as caught:
        GateRun.under(gate, root, root)
    assert caught.value.code == "path_outside_root"


# --- over HTTP ------------------------------------------------------------------------------------


class FinderLoader(FolderLoader):
    """Makes a :class:`Finder` of the number in the weights; those of ``knows`` know less."""

    def __init__(self) -> None:
        super().__init__()
        self.knows: dict[int, tuple[int, ...]] = {}
        self.preparing: Callable[[int], None] = lambda height: None

    def __call__(self, source: Any) -> FakeDetector:
        made = super().__call__(source)
        shown = {"class_names": CLASSES, "weights_sha256": made.description.weights_sha256}
        finder = Finder(made.number, knows=self.knows.get(made.number, (40, 50)), **shown)
        finder.preparing = self.preparing
        self.loaded[-1] = finder
        return finder

    def number(self, number: int) -> Finder:
        """The last one of this number that was loaded."""
        found = next(made for made in reversed(self.loaded) if made.number == number)
        assert isinstance(found, Finder)
        return found


class Gated:
    """A server with a repository: version 2 finds less than version 1, which is current."""

    def __init__(self, serve: Serve, root: Path) -> None:
        DatasetFiles(root).load()
        self.root = root
        self.loader = FinderLoader()
        self.loader.knows[2] = (40,)
        make_version(root, "1")
        self.served: Served = serve(loader=self.loader, repository=root)

    async def reload(self, version: str = "2", status: int = 422, **body: Any) -> dict[str, Any]:
        answer = await self.served.client.post("/reload", json={"version": version} | body)
        assert answer.status_code == status, answer.text
        content: dict[str, Any] = answer.json()
        return content if status < 300 else content["error"]

    @property
    def current(self) -> str:
        return self.served.runtime.repository.get().current.label


@pytest.fixture
def gated(serve: Serve, tmp_path: Path) -> Gated:
    return Gated(serve, tmp_path)


@pytest.mark.anyio
async def test_a_reload_that_fails_its_gate_is_422_with_the_table(gated: Gated) -> None:
    make_version(gated.root, "2")
    error = await gated.reload(gate={"dataset": "set.json", "max_drop": 1})
    assert error["code"] == "gate_failed"
    table = error["details"]["gate"]
    assert table["current_ap"] == 100.0
    assert table["ap"] < 99
    assert gated.current == error["details"]["serving_version"] == "1"
    await asyncio.to_thread(gated.served.runtime.scheduler.call(lambda: None).result, PATIENCE_S)
    assert gated.loader.number(2).closed == 1
    job = (await gated.served.client.get(f"/reload/{error['details']['reload']}")).json()
    assert (job["outcome"], job["gate"]["ap"]) == ("gate_failed", table["ap"])


@pytest.mark.anyio
async def test_a_reload_that_passes_tells_the_table_too(gated: Gated) -> None:
    make_version(gated.root, "3")
    done = await gated.reload("3", 200, gate={"dataset": "set.json", "min_ap": 99})
    assert (done["version"], done["gate"]["passed"], done["gate"]["ap"]) == ("3", True, 100.0)
    assert done["phases_s"]["gate"] > 0


@pytest.mark.anyio
async def test_the_gate_of_model_yaml_holds_for_every_reload(gated: Gated) -> None:
    gate = "gate: {dataset: ../../set.json, min_ap: 90}"
    make_version(gated.root, "2", files={"model.yaml": gate})
    assert (await gated.reload())["code"] == "gate_failed"
    assert (await gated.reload(gate=None))["code"] == "gate_failed"
    done = await gated.reload(status=200, gate={"dataset": "set.json", "min_ap": 10})
    assert done["gate"]["min_ap"] == 10


@pytest.mark.anyio
async def test_gate_false_skips_it(gated: Gated) -> None:
    gate = "gate: {dataset: ../../set.json, min_ap: 90}"
    make_version(gated.root, "2", files={"model.yaml": gate})
    done = await gated.reload(status=200, gate=False)
    assert (done["version"], done["gate"]) == ("2", None)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["../set.json", "/etc/passwd"])
async def test_a_gate_outside_of_the_root_is_403(gated: Gated, path: str) -> None:
    make_version(gated.root, "2")
    assert (await gated.reload(status=403, gate={"dataset": path}))["code"] == "path_outside_root"


@pytest.mark.anyio
async def test_a_set_that_does_not_fit_is_422_and_the_old_version_goes_on(gated: Gated) -> None:
    content = json.loads((gated.root / "set.json").read_text())
    content["categories"] = [{"id": 5, "name": "car"}, {"id": 2, "name": "bus"}]
    (gated.root / "set.json").write_text(json.dumps(content))
    make_version(gated.root, "2")
    error = await gated.reload(gate={"dataset": "set.json"})
    assert error["code"] == "gate_impossible"
    assert "bus, car" in error["message"]
    assert gated.current == "1"


@pytest.mark.anyio
async def test_in_place_the_current_version_is_measured_before_it_goes(gated: Gated) -> None:
    make_version(gated.root, "2")
    gate = {"dataset": "set.json", "max_drop": 1}
    first = gated.loader.number(1)
    error = await gated.reload(strategy="in_place", gate=gate)
    assert error["code"] == "gate_failed"
    assert error["details"]["gate"]["current_ap"] == 100.0
    assert len(first.measured) == PICTURES
    assert first.closed == 1
    assert gated.current == "1"
    assert gated.loader.number(1) is not first


@pytest.mark.anyio
async def test_requests_are_answered_between_two_pictures_of_the_gate(
    gated: Gated, come: Callable[[threading.Event], Any]
) -> None:
    make_version(gated.root, "3")
    between, answered = threading.Event(), threading.Event()

    def preparing(height: int) -> None:
        if height == 50:  # the second picture
            between.set()
            assert answered.wait(PATIENCE_S)

    gated.loader.preparing = preparing
    gate = {"dataset": "set.json", "min_ap": 99}
    begun = await gated.reload("3", 202, gate=gate, wait=False)
    await come(between)
    job = gated.served.runtime.repository.jobs.get(begun["id"])
    assert (job.phase, job.progress) == ("gate", 1 / PICTURES)
    upload = {"images": ("a.png", picture(7))}
    answer = await gated.served.client.post("/predict", files=upload)
    assert (answer.status_code, answer.json()["model"]["version"]) == (200, "1")
    answered.set()
    await come(job.finished)
    assert job.error is None
    assert gated.loader.number(3).measured == [40, 50]


# --- the embedded model ---------------------------------------------------------------------------


def load(weights: Path) -> TorchDetector:
    return load_torch_detector(
        config=PRETRAINED / "config.yaml",
        weights=weights,
        labels=PRETRAINED / "labels.txt",
        device="cpu",
    )


def on_shapes(detector: TorchDetector, current: TorchDetector, **how: Any) -> dict[str, Any]:
    gate = GateRun.under(Gate(dataset="val.json", max_images=3, **how), SHAPES, SHAPES)
    version = ModelVersion("shapes", "1", current)
    return gate.run(
        detector, version, call=at_once, progress=lambda done, of: None, known=Figures()
    )


def test_the_embedded_model_is_as_good_as_itself_and_far_better_than_one_that_finds_nothing(
    tmp_path: Path,
) -> None:
    path = PRETRAINED / "model_final.pth"
    checkpoint = torch.load(path, weights_only=True)
    # All classes but the last, the background, become impossible.
    checkpoint["model"]["roi_heads.box_predictor.cls_score.bias"][:-1] = -100.0
    torch.save(checkpoint, tmp_path / "blind.pth")
    model, again, blind = load(path), load(path), load(tmp_path / "blind.pth")
    same = on_shapes(again, model, min_ap=60, max_drop=0)
    assert (same["passed"], same["iou_type"]) == (True, "segm")
    assert same["ap"] == same["current_ap"] > 60
    worse = on_shapes(blind, model, max_drop=5)
    assert (worse["ap"], worse["candidate"]["detections"]) == (0.0, 0)
    [failure] = worse["failures"]
    assert failure.startswith(f"segm AP drops by {same['ap']:.2f}")
