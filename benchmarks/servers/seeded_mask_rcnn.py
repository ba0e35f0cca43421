"""Our Mask R-CNN R50-FPN with the weights of the golden answers, at the size that people run it at."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).parent.parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "support")]

from seeded_weights import seeded_state  # noqa: E402  # see the path above

from models import Config, build_model, load_config  # noqa: E402  # likewise

GOLDEN = REPOSITORY / "tests/data/golden/COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x"
SIZE = ["INPUT.MIN_SIZE_TEST", 800, "INPUT.MAX_SIZE_TEST", 1333]


def seeded_model() -> tuple[Any, Config]:
    """The model and its config: 640x480 is run as 800x1067, and finds 100 objects."""
    expected = json.loads((GOLDEN / "expected.json").read_text())
    cfg = load_config(GOLDEN / "config.yaml", SIZE)
    model = build_model(cfg)
    state = seeded_state(model, expected["seed"], expected["stem_gain"])
    model.load_state_dict(state, strict=False)
    return model.eval(), cfg


def write_model(folder: Path) -> None:
    """Write ``config.yaml`` and ``model.pth`` as ``detserve serve`` takes them."""
    model, cfg = seeded_model()
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "model.pth")
