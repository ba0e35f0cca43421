"""What a training leaves: a model that Detectron2, ``detserve serve`` and a repository take."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from models.config import Config
from models.sidecars import KEYPOINTS, LABELS, KeypointNames
from models.training.data.dataset import TrainingDataset
from models.training.data.expectations import expectations_of
from models.training.saving import save_checkpoint, write_text


def write_model(
    folder: Path,
    name: str,
    state_dict: dict[str, Tensor],
    cfg: Config,
    dataset: TrainingDataset,
    iteration: int,
) -> None:
    """Write a checkpoint of weights, the config that builds its model, and the names of its classes and
    keypoints.

    ``config.yaml`` names ``model_final.pth``, whichever checkpoint is written.

    Raises:
        CheckpointError: the checkpoint cannot be written.
    """
    save_checkpoint(folder / name, {"model": state_dict, "iteration": iteration - 1})
    write_text(folder / "config.yaml", cfg.override("MODEL.WEIGHTS", "model_final.pth").dump())
    write_text(folder / LABELS, "".join(f"{label}\n" for label in dataset.class_names))
    if expectations_of(cfg).num_keypoints:  # which the data fits, or nothing would be trained
        keypoints = KeypointNames(
            dataset.keypoint_names, dataset.keypoint_flip_map, dataset.keypoint_skeleton
        )
        write_text(folder / KEYPOINTS, keypoints.to_json())
