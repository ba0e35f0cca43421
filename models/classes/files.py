"""The files of an extended model, as training, Detectron2 and the server read them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from models.classes.extending import ExtendedModel
from models.errors import ModelError
from models.metadata import keypoints_for
from models.sidecars import KEYPOINTS, LABELS, STUFF_LABELS, KeypointNames

WEIGHTS, CONFIG = "model_final.pth", "config.yaml"
FILES = (WEIGHTS, LABELS, STUFF_LABELS, KEYPOINTS, CONFIG)


def save_extended(
    extended: ExtendedModel, folder: str | Path, *, keypoints: KeypointNames | None = None
) -> list[Path]:
    """Write ``model_final.pth`` (``{"model": state dict}``), ``labels.txt``, ``config.yaml``, of a
    panoptic model whose stuff has names ``stuff_labels.txt``, and of a keypoint model whose keypoints
    have names ``keypoints.json``.

    Each file is there whole or not at all, the config, which points at the weights, last.

    Args:
        extended: the model.
        folder: made if it is not there; it must have none of these files.
        keypoints: of the model; None for those of the data set that its config names. With other
            classes nobody can tell any more that the model is of that data set, so they are written down.

    Returns:
        The paths of the files.

    Raises:
        ModelError: there are such files already, or they cannot be written.
    """
    folder = Path(folder)
    weights = folder / WEIGHTS
    names = [(LABELS, extended.class_names), (STUFF_LABELS, extended.stuff_names)]
    texts = {name: "".join(f"{line}\n" for line in lines) for name, lines in names if lines}
    keypoints = keypoints or keypoints_for(extended.cfg)
    if keypoints is not None:
        texts[KEYPOINTS] = keypoints.to_json()
    state = {key: _alone(tensor.cpu()) for key, tensor in extended.state_dict.items()}
    # Relative to the config, so that the folder can be moved, copied and mounted elsewhere.
    config = extended.cfg.override("MODEL.WEIGHTS", WEIGHTS)
    check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [_write(weights, lambda file: torch.save({"model": state}, file))]
        for name, text in (texts | {CONFIG: config.dump()}).items():
            written.append(_write(folder / name, _writer(text)))
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror}.") from None
    return written


def check_free(folder: Path, names: Iterable[str] = FILES) -> None:
    """Raises ModelError if ``folder`` has a file that would be overwritten."""
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise ModelError(
            f"{folder} has a {there[0]} already, and nothing is overwritten. Name another folder."
        )


def _alone(tensor: Tensor) -> Tensor:
    """The tensor with no more memory behind it than its own: a file would hold all of that."""
    tensor = tensor.contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _writer(text: str) -> Callable[[IO[bytes]], object]:
    return lambda file: file.write(text.encode())


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    part = path.with_name(f".{path.name}.new")
    try:
        part.unlink(missing_ok=True)
        # Exclusive: never through a link that somebody has put there.
        with part.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:  # whatever ends it, no half file stays
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    return path
