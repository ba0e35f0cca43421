"""What two processes of one training agree on: when to stop, what to go on from, what is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import tiny_shapes

SCRIPT = Path(__file__).parents[2] / "support" / "two_training_processes.py"

Seen = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After the two processes; they cost seconds, so all tests look at one run."""
    folder = tmp_path_factory.mktemp("two")
    content = json.loads(tiny_shapes(folder).read_text())
    kept = [a for a in content["annotations"] if a["image_id"] % 2]
    tiny_shapes(folder, 3, seed=2, name="val")
    (folder / "half.json").write_text(json.dumps(content | {"annotations": kept}))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, str(SCRIPT), str(folder)], env=environment, check=True, timeout=150)
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> Seen:
    """What each process wrote."""
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))
    return first, second


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "model_final.pth", weights_only=True)[
        "model"
    ]
    return state


def test_what_processes_tell_each_other(seen: Seen) -> None:
    for rank, one in enumerate(seen):
        assert one["collectives"] == {
            "gathered": ["of 0", "of 1"],
            "at_first": [] if rank else ["of 0", "of 1"],
            "from_first": 0,
            "any": [True, False],
            "copied": [[0.0, 0.0], 10],
        }


def test_one_that_is_asked_to_stop_stops_both_after_the_same_iteration(seen: Seen) -> None:
    assert [one["resumed"]["stopped_after"] for one in seen] == [5, 5]


def test_each_goes_on_from_its_own_state(seen: Seen) -> None:
    for one in seen:
        stopped, resumed = one["resumed"]["normalizer"]
        assert resumed == stopped
    assert seen[0]["resumed"]["normalizer"] != seen[1]["resumed"]["normalizer"]


def test_resumed_processes_end_with_the_same_bits(folder: Path, seen: Seen) -> None:
    whole, parts = weights_of(folder / "whole"), weights_of(folder / "parts")
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_process_without_objects_holds_nobody_up(seen: Seen) -> None:
    first, second = (one["without_objects"] for one in seen)
    assert any(
        (a == 0) != (b == 0) for a, b in zip(first["objects"], second["objects"], strict=True)
    )
    assert first["finished"]
    assert second["finished"]
    assert first["weights"] == second["weights"]


def test_processes_that_share_the_pictures_measure_what_one_does(seen: Seen) -> None:
    first, second = (one["measured"] for one in seen)
    assert first["together"]["detections"] > 0
    assert first["together"] == first["alone"]
    assert second["together"] is None


def test_statistics_that_moved_apart_are_measured_as_the_first_has_them(seen: Seen) -> None:
    first, second = (one["measured"] for one in seen)
    assert any(first["statistics"])
    assert first["statistics"] == second["statistics"]
