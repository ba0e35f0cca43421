"""What processes of one training agree on, as torchrun starts them: FOLDER with train.json, half.json
and val.json.

Each writes what it has seen as FOLDER/<rank>.json.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# Behind all others: a file there is called like a module of Python's own.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from tiny_training import CLASSES, tiny_training_config

from models.evaluation import CocoDataset
from models.training import Trainer, TrainingOptions
from models.training.data.dataset import TrainingDataset
from models.training.distributed import World, process_group, world_from_environment
from models.training.validation import measure

RETINANET = {
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.MASK_ON": False,
    "MODEL.RETINANET.NUM_CLASSES": len(CLASSES),
    "SOLVER.MAX_ITER": 8,
    "SOLVER.STEPS": (7,),
}
MOVING_STATISTICS = {"MODEL.ROI_MASK_HEAD.NORM": "BN", "SOLVER.MAX_ITER": 3, "SOLVER.STEPS": ()}
EMPTY_TOO = {"DATALOADER.FILTER_EMPTY_ANNOTATIONS": False, "SOLVER.MAX_ITER": 5}


def trainer(
    folder: Path,
    name: str,
    data: str,
    changes: Mapping[str, Any],
    val: CocoDataset | None = None,
    **options: Any,
) -> Trainer:
    return Trainer(
        tiny_training_config(changes),
        TrainingDataset.load(folder / f"{data}.json", folder / "train", class_names=CLASSES),
        val,
        output=folder / name,
        options=TrainingOptions(log_period=2, **options),
        device="cpu",
    )


def collectives(world: World) -> dict[str, Any]:
    tensors = [torch.full((2,), float(world.rank)), torch.tensor(10 + world.rank)]
    world.copy_from_first_(tensors)
    return {
        "gathered": world.gather(f"of {world.rank}"),
        "at_first": world.at_first(f"of {world.rank}"),
        "from_first": world.from_first(world.rank),
        "any": [world.any(world.rank == 1), world.any(False)],
        "copied": [tensor.tolist() for tensor in tensors],
    }


def stop_and_resume(folder: Path, world: World) -> dict[str, Any]:
    """The second process alone is asked to stop, in its third iteration."""
    trainer(folder, "whole", "train", RETINANET).train()
    parts = trainer(folder, "parts", "train", RETINANET)
    calls = []

    def ask(*_: Any) -> None:
        calls.append(None)
        if world.rank == 1 and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    parts.model.register_forward_pre_hook(ask)
    stopped = parts.train()
    resumed = trainer(folder, "parts", "train", RETINANET)
    resumed.resume()
    normalizer = resumed.model.loss_normalizer
    resumed.train()
    return {
        "stopped_after": stopped.iteration,
        "normalizer": [parts.model.loss_normalizer, normalizer],
    }


def without_objects(folder: Path, world: World) -> dict[str, Any]:
    """One of two pictures has no object, so that a process often has none at all; a part is frozen."""
    running = trainer(
        folder, "half", "half", EMPTY_TOO, learning_rates={"roi_heads.mask_head": 0.0}
    )
    objects = []

    def count(_: Any, inputs: Any) -> None:
        objects.append(sum(len(one["instances"]) for one in inputs[0]))

    running.model.register_forward_pre_hook(count)
    result = running.train()
    weights = torch.cat([p.detach().flatten() for p in running.model.parameters()])
    return {
        "objects": objects,
        "finished": result.finished,
        "weights": [float(weights.double().sum()), float(weights.double().norm())],
    }


def measured(folder: Path, world: World) -> dict[str, Any]:
    """The processes share the pictures; alone the first one must find the same."""
    val = CocoDataset.load(folder / "val.json", folder / "val")
    running = trainer(folder, "measured", "train", MOVING_STATISTICS, val)
    after = running.train().after
    alone = measure(running.model, running.cfg, val, CLASSES, World()) if world.is_first else None
    norm = running.model.roi_heads.mask_head.mask_fcn1.norm
    return {
        "together": after.to_dict() if after is not None else None,
        "alone": alone.to_dict() if alone is not None else None,
        "statistics": norm.running_mean.tolist(),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    world = world_from_environment()
    with process_group(world, torch.device("cpu")):
        seen = {
            "collectives": collectives(world),
            "resumed": stop_and_resume(folder, world),
            "without_objects": without_objects(folder, world),
            "measured": measured(folder, world),
        }
    (folder / f"{world.rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
