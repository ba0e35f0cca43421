"""A training that is killed, and one that two processes share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_training import tiny_shapes

from models.training.journal import read_journal

SCRIPT = Path(__file__).parents[2] / "support" / "tiny_training_process.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *arguments]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "model_final.pth", weights_only=True)[
        "model"
    ]
    return state


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    tiny_shapes(tmp_path)
    subprocess.run(command(str(tmp_path), "whole", "12"), env=ENVIRONMENT, check=True)
    # Killed at a point that nothing prepares for: as soon as the log has its fifth line.
    killed = subprocess.Popen(command(str(tmp_path), "parts", "12"), env=ENVIRONMENT)
    log = tmp_path / "parts" / "metrics.jsonl"
    while killed.poll() is None and (not log.exists() or len(read_journal(log)) < 5):
        pass
    killed.kill()
    killed.wait()
    assert not (tmp_path / "parts" / "model_final.pth").exists()
    subprocess.run(command(str(tmp_path), "parts", "12", "resume"), env=ENVIRONMENT, check=True)
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    timeless = [
        [
            {k: v for k, v in line.items() if "second" not in k}
            for line in read_journal(tmp_path / name / "metrics.jsonl")
        ]
        for name in ("whole", "parts")
    ]
    assert timeless[0] == timeless[1]


def equal_pictures(folder: Path) -> None:
    """Pictures of one size: a batch pads all to the largest, and padding counts as background."""
    content = json.loads(tiny_shapes(folder, 20).read_text())
    size = 128
    for image in content["images"]:
        path = folder / "train" / image["file_name"]
        with Image.open(path) as picture:
            cut = picture.crop((0, 0, size, size))
        cut.save(path)
        image["width"] = image["height"] = size
    kept = []
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        del annotation["segmentation"]
        if x + width <= size and y + height <= size:
            kept.append(annotation)
    content["annotations"] = kept
    (folder / "train.json").write_text(json.dumps(content))


@pytest.mark.timeout(180)
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    equal_pictures(tmp_path)
    subprocess.run(command(str(tmp_path), "one", "4", "exact"), env=ENVIRONMENT, check=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*launcher, str(SCRIPT), str(tmp_path), "two", "4", "exact"], env=ENVIRONMENT, check=True
    )
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)
    losses = [
        [line["total_loss"] for line in read_journal(tmp_path / name / "metrics.jsonl")]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
