"""What every model of the zoo is: builds each one without weights and writes ``docs/zoo.md``.

Run by ``.venv/bin/python benchmarks/zoo_table.py``; takes seconds and needs no weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))

from models import Config, build_model, zoo  # noqa: E402  # of this checkout
from models.checkpoints.inspection import ConfigFacts, inspect_config  # noqa: E402  # likewise
from models.config.lazy_tags import LAZY_KEY  # noqa: E402  # likewise

HEADER = """# The zoo

Detectron2's published models. Each builds by its name alone, `--zoo NAME`, and `detserve download NAME`
fetches its file, checked against the MD5 prefix in the file's name; a name needs its folder only where two
models share it. Made by `.venv/bin/python benchmarks/zoo_table.py`, which builds every one.

AP, PQ and recall are in percent and Detectron2's own; *M* is millions of numbers in the weights. Norms are
FrozenBN where none is named.
"""
COLUMNS = ("name", "architecture", "backbone", "heads: outputs", "classes", "M", "published")
_FIGURES = {
    "box_ap": "box",
    "mask_ap": "mask",
    "keypoint_ap": "keypoint",
    "panoptic_quality": "PQ",
    "proposal_recall": "recall",
}


def backbone(cfg: Config, facts: ConfigFacts) -> str:
    """Such as ``ResNet-50 FPN, GN``."""
    resnets = cfg.MODEL.RESNETS
    if facts.backbone == "FPN on RegNet":
        lazy = cfg[LAZY_KEY]
        has_attention = "se_ratio" in lazy.get("backbone.bottom_up", {})
        name = f"RegNet{'Y' if has_attention else 'X'} FPN"
    elif "fpn" in facts.backbone.lower():
        name = f"{_residual(cfg, facts)} FPN"
    else:
        last = "DC5" if resnets.OUT_FEATURES == ["res5"] else "C4"
        name = f"{_residual(cfg, facts)} {last}"
    if any(resnets.DEFORM_ON_PER_STAGE):
        name += ", deformable v2" if resnets.DEFORM_MODULATED else ", deformable"
    return name if facts.norm in (None, "FrozenBN") else f"{name}, {facts.norm}"


def _residual(cfg: Config, facts: ConfigFacts) -> str:
    resnets = cfg.MODEL.RESNETS
    if resnets.NUM_GROUPS > 1:
        return f"ResNeXt-{facts.depth} {resnets.NUM_GROUPS}x{resnets.WIDTH_PER_GROUP}d"
    return f"ResNet-{facts.depth}"


def heads(model: Any, facts: ConfigFacts) -> str:
    """Such as ``StandardROIHeads: boxes, masks``."""
    if facts.meta_architecture == "ProposalNetwork":
        return f"{type(model.proposal_generator).__name__}: proposals"
    outputs = ["boxes"]
    outputs += ["masks"] * facts.masks
    outputs += [f"{facts.num_keypoints} keypoints"] * bool(facts.num_keypoints)
    outputs += ["semantic and panoptic map"] * (facts.num_stuff_classes is not None)
    found = getattr(model, "roi_heads", None)
    owner = type(model.head if found is None else found).__name__
    precomputed = "" if found is None or model.proposal_generator else " on given proposals"
    return f"{owner}{precomputed}: {', '.join(outputs)}"


def classes(facts: ConfigFacts) -> str:
    """Of instances, and of the semantic head."""
    if facts.num_classes is None:
        return ""
    stuff = f" + {facts.num_stuff_classes} stuff" if facts.num_stuff_classes else ""
    return f"{facts.num_classes}{stuff}"


def row(name: str) -> list[str]:
    """The cells of one model."""
    entry = zoo.get(name)
    cfg = entry.config()
    facts = inspect_config(cfg)
    with torch.device("meta"):  # shapes without memory
        model = build_model(cfg)
    numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    figures = [(words, getattr(entry, field)) for field, words in _FIGURES.items()]
    return [
        entry.short_name,
        facts.meta_architecture,
        backbone(cfg, facts),
        heads(model, facts),
        classes(facts),
        f"{numbers / 1e6:.1f}",
        ", ".join(f"{words} {value:.1f}" for words, value in figures if value is not None),
    ]


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "zoo.md")
    out: Path = parser.parse_args().out
    lines = [HEADER.rstrip()]
    folder = ""
    for name in zoo.names():
        if name.partition("/")[0] != folder:
            folder = name.partition("/")[0]
            lines += ["", f"## {folder}", "", _line(COLUMNS), "|---" * len(COLUMNS) + "|"]
        lines.append(_line(row(name)))
    out.write_text("\n".join(lines) + "\n")


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
