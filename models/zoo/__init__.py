"""Detectron2's model zoo: every published model by name, with its config and its figures.

The configs are composed here, so that a model can be built without Detectron2's files::

    model = build_model(zoo.get("mask_rcnn_R_50_FPN_3x").config())
"""

from __future__ import annotations

import difflib

from models.errors import ConfigError
from models.zoo.catalogue import MODELS, ZooModel

__all__ = ["ZooModel", "get", "names"]


def names() -> list[str]:
    """The full names of all models, such as ``COCO-Detection/faster_rcnn_R_50_FPN_3x``."""
    return list(MODELS)


def get(name: str) -> ZooModel:
    """The model called ``name``.

    Args:
        name: full, or without the folder where that is unique; an ending .yaml or .py is ignored.

    Raises:
        ConfigError: there is no such model, or several have that short name; names those meant.
    """
    wanted = name.removesuffix(".yaml").removesuffix(".py")
    if wanted in MODELS:
        return MODELS[wanted]
    same = [full for full, model in MODELS.items() if model.short_name == wanted]
    if len(same) == 1:
        return MODELS[same[0]]
    if same:
        raise ConfigError(
            f"The zoo has {len(same)} models called {name!r}: {', '.join(same)}. "
            "Give the name with its folder.",
            names=same,
        )
    short = "/" not in wanted
    known = {model.short_name if short else full: full for full, model in MODELS.items()}
    lower = {key.lower(): full for key, full in known.items()}
    close = [lower[key] for key in difflib.get_close_matches(wanted.lower(), lower, n=3)]
    hint = f"Did you mean {' or '.join(close)}?" if close else "detserve download --list names all."
    raise ConfigError(f"The zoo has no model {name!r}. {hint}", names=close)
