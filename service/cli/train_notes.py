"""What ``detserve train`` says of options that are allowed, and that people have come to regret."""

from __future__ import annotations

from models.config import Config
from models.config.idle_keys import idle_key_notes
from models.config.lazy_tags import LAZY_KEY
from models.training.schedule import learning_rate_warning, schedule_warning
from service.cli.train_request import TrainRequest

USUAL_THRESHOLD = 0.05
"""Of scores, in Detectron2's configs of COCO; AP is measured above the model's own."""

_SECTIONS = {"GeneralizedRCNN": "ROI_HEADS", "PanopticFPN": "ROI_HEADS", "RetinaNet": "RETINANET"}


def notes_on(cfg: Config, request: TrainRequest) -> list[str]:
    """Sentences on keys that change nothing, a schedule or a threshold that will disappoint, and on
    what is not measured.

    Args:
        cfg: as it will be trained.
        request: that it comes from.
    """
    notes = [*idle_key_notes(cfg, request.overrides[::2])]
    notes += [note for note in (schedule_warning(cfg), learning_rate_warning(cfg)) if note]
    if not request.measures:
        notes.append(
            "Nothing is measured without --val: there will be no AP, no model_best.pth, and nobody sees "
            "when it begins to learn by heart. Keep some annotated pictures aside for it."
        )
        return notes
    section = _SECTIONS.get(cfg.MODEL.META_ARCHITECTURE)
    if section is None or LAZY_KEY in cfg:
        return notes
    key = f"MODEL.{section}.SCORE_THRESH_TEST"
    if cfg[key] > USUAL_THRESHOLD:
        notes.append(
            f"AP will be measured above {key} {cfg[key]:g}, which cuts off what scores less, and be lower "
            f"than with {USUAL_THRESHOLD:g}. Train with that, and ask for higher scores when serving."
        )
    return notes
