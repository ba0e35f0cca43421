"""A tiny training as a process: FOLDER NAME ITERATIONS [resume] [exact]."""

import sys
from pathlib import Path

import torch

# Behind all others: a file there is called like a module of Python's own.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from tiny_training import CLASSES, tiny_training_config

from models.training import Trainer, TrainingOptions
from models.training.data.dataset import TrainingDataset


def main() -> None:
    folder, name, iterations = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    changes = {"SOLVER.MAX_ITER": iterations, "SOLVER.STEPS": (iterations - 1,)}
    if "exact" in sys.argv:
        # All anchors count and their losses are divided by a fixed number, so that nothing is left to
        # chance and the mean of two processes is what one computes.
        changes |= {
            "MODEL.META_ARCHITECTURE": "ProposalNetwork",
            "MODEL.MASK_ON": False,
            "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 8192,
            "MODEL.RPN.POSITIVE_FRACTION": 1.0,
        }
    cfg = tiny_training_config(changes)
    trainer = Trainer(
        cfg,
        TrainingDataset.load(folder / "train.json", class_names=CLASSES),
        output=folder / name,
        options=TrainingOptions(log_period=1, checkpoint_period=2),
        device="cpu",
    )
    if "resume" in sys.argv:
        trainer.resume()
    trainer.train()


if __name__ == "__main__":
    main()
