"""Versions that are no good: each is refused with its reason, and the old one serves throughout."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from coco_files import DatasetFiles
from fake_detector import FakeDetector
from fake_repository import make_version
from fake_server import Serve
from reload_faults import FaultyLoader, refused, serve_versions, state_of, swapped

from models.structures import Instances
from service.repository.disk.manifest import Manifest

pytestmark = pytest.mark.anyio


# --- files that are not what they were ------------------------------------------------------------


def _cut(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1])


def _alter(weights: Path) -> None:
    weights.write_bytes(b"9" * weights.stat().st_size)


def _remove(weights: Path) -> None:
    weights.unlink()


@pytest.mark.parametrize(
    ("damage", "code", "state"),
    [
        (_cut, "file_changed", "incomplete"),
        (_alter, "file_changed", "failed"),
        (_remove, "file_missing", "incomplete"),
    ],
)
async def test_a_file_that_disagrees_with_the_manifest(
    serve: Serve, tmp_path: Path, damage: Callable[[Path], None], code: str, state: str
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")
    damage(tmp_path / "shapes" / "2" / "model_final.pth")
    error = await refused(served, 422, code, version="2")
    assert await state_of(served, "2") == (state, error["message"])
    assert served.loader.labels == ["1"], "a damaged version is never loaded"
    await swapped(served, "3")


async def test_a_checkpoint_that_was_cut_off_before_it_was_sealed(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "3")
    (make_version(tmp_path, "2", sealed=False) / "model_final.pth").write_text("PK cut o")
    Manifest.of(tmp_path / "shapes" / "2").write(tmp_path / "shapes" / "2")
    error = await refused(served, 422, "model_refused", version="2")
    assert error["details"]["serving_version"] == "1"
    assert await state_of(served, "2") == ("failed", "model_final.pth is no checkpoint.")
    await swapped(served, "3")


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_file_that_is_replaced_while_it_is_loaded(
    serve: Serve, tmp_path: Path, moment: str
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")
    weights = tmp_path / "shapes" / "2" / "model_final.pth"

    def replace(source: Any) -> None:
        (tmp_path / "other").write_text("3")
        os.replace(tmp_path / "other", weights)

    setattr(served.loader, moment, replace)
    await refused(served, 422, "file_changed", version="2")
    state, reason = await state_of(served, "2")
    assert state == "failed"
    assert "model_final.pth" in reason or "no longer the same file" in reason
    setattr(served.loader, moment, lambda source: None)
    await swapped(served, "3")


# --- models that are no good ----------------------------------------------------------------------


async def test_a_wrong_class_count(serve: Serve, tmp_path: Path) -> None:
    served = serve_versions(serve, tmp_path, "1", "3")
    make_version(tmp_path, "2", labels=("disc", "square"))
    error = await refused(served, 422, "classes_changed", version="2")
    assert (error["details"]["classes_before"], error["details"]["classes"]) == (4, 2)
    assert (await state_of(served, "2"))[0] == "failed"
    await swapped(served, "3")


async def test_nan_weights(serve: Serve, tmp_path: Path) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")

    def spoil(detector: Any) -> None:
        detector.not_finite = lambda: "backbone.weight (float32)"

    served.loader.spoil[2] = spoil
    error = await refused(served, 422, "model_refused", version="2")
    assert "backbone.weight" in error["message"]
    assert await state_of(served, "2") == ("failed", error["message"])
    await swapped(served, "3")


async def test_weights_that_detect_nothing_on_the_gates_set(serve: Serve, tmp_path: Path) -> None:
    files = DatasetFiles(tmp_path)
    files.path.write_text(json.dumps(files.content))
    names = ("cat", "dog", "bird")
    make_version(tmp_path, "1", labels=names)
    loader = FaultyLoader()
    served = serve(loader=loader, repository=tmp_path)
    for label in "23":
        make_version(tmp_path, label, labels=names)

    def blind(detector: FakeDetector) -> None:
        detector.answers = lambda found: [one[torch.zeros(3, dtype=torch.bool)] for one in found]

    def sees(detector: FakeDetector) -> None:
        detector.answers = lambda found: [_annotated(one) for one in found]

    loader.spoil = {2: blind, 3: sees}
    gate = {"dataset": "set.json", "min_ap": 50, "iou_type": "bbox"}
    error = await refused(served, 422, "gate_failed", version="2", gate=gate)
    assert error["details"]["gate"]["ap"] == 0
    assert (await state_of(served, "2"))[0] == "failed"
    report = await swapped(served, "3", gate=gate)
    assert report["gate"]["ap"] == 100


def _annotated(found: Instances) -> Instances:
    """Of the two pictures of the set, what is annotated in them; of others what was found."""
    boxes = {
        (40, 60): [[10, 10, 30, 30], [30, 5, 40, 35], [0, 0, 1, 1]],
        (50, 70): [[0, 0, 1, 1], [0, 0, 40, 40], [1, 1, 2, 2]],
    }
    if found.image_size in boxes:
        found.pred_boxes.tensor[:] = torch.tensor(boxes[found.image_size], dtype=torch.float32)
        found.scores = torch.tensor([0.9, 0.8, 0.1])
    return found


async def test_a_model_that_fails_on_a_test_picture(serve: Serve, tmp_path: Path) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")

    def spoil(detector: FakeDetector) -> None:
        detector.fail_on = set(range(256))

    served.loader.spoil[2] = spoil
    error = await refused(served, 422, "model_refused", version="2")
    assert "self-check: RuntimeError" in error["message"]
    await swapped(served, "3")


async def test_a_model_that_fails_in_the_warm_up(serve: Serve, tmp_path: Path) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")

    def spoil(detector: Any) -> None:
        infer = detector.infer

        def failing(batch: Any, pause: Any = None) -> Any:
            if len(detector.batches) >= 3:  # the pictures of the self-check
                raise RuntimeError("a kernel failed")
            return infer(batch, pause)

        detector.infer = failing

    served.loader.spoil[2] = spoil
    await refused(served, 422, "model_refused", version="2")
    assert (await state_of(served, "2"))[0] == "failed"
    outcome = {"model": "shapes", "outcome": "warmup_failed"}
    assert served.metric("model_reloads_total", **outcome) == 1
    await swapped(served, "3")


async def test_what_nobody_foresaw_is_in_the_log_and_nowhere_else(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    served.loader.error = RuntimeError("/srv/secret")
    error = await refused(served, 422, "model_refused", version="2")
    state, reason = await state_of(served, "2")
    assert state == "failed"
    assert "secret" not in error["message"] + reason
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"]
    assert "/srv/secret" in caplog.text
    served.loader.error = None
    await swapped(served, "2")


# --- a disk that is full --------------------------------------------------------------------------


async def test_a_disk_that_is_full_when_the_current_version_is_recorded(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", _full)
        error = await refused(served, 507, "state_not_written", version="2")
        assert "No space left" in error["message"]
        # A version that cannot be recorded is not to blame: it may be tried again.
        assert (await state_of(served, "2"))[0] == "available"
    assert sorted(os.listdir(tmp_path / "shapes")) == [".lock", "1", "2", "state.json"]
    await swapped(served, "2")


async def test_a_disk_that_is_full_when_an_alias_is_recorded(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", _full)
        response = await served.client.put("/models/shapes/aliases/stable", json={"version": "2"})
        assert response.json()["error"]["code"] == "state_not_written"
    assert [detector.closed for detector in served.loader.of(2)] == [1]
    assert (await state_of(served, "2"))[0] == "available"
    again = await served.client.put("/models/shapes/aliases/stable", json={"version": "2"})
    assert again.status_code == 200, again.text


def _full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
