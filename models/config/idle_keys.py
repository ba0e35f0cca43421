"""Keys that change nothing, as another kind of detector reads them: a RetinaNet has a threshold of its
own, and that of the RoI heads is no concern of it."""

from __future__ import annotations

from collections.abc import Iterable

from models.config.config import Config
from models.config.defaults import DEFAULTS
from models.config.lazy_tags import LAZY_KEY

_SECTIONS = ("ROI_HEADS", "RETINANET")
_READ_BY = {"GeneralizedRCNN": "ROI_HEADS", "PanopticFPN": "ROI_HEADS", "RetinaNet": "RETINANET"}
_TWINS = ("NUM_CLASSES", "SCORE_THRESH_TEST", "NMS_THRESH_TEST")
"""What both sections have, and what people set in the wrong one."""

_ONLY_OVERRIDDEN = ("NUM_CLASSES",)
"""Left over in many a file; a wrong number of classes is refused anyway."""


def idle_key_notes(cfg: Config, overridden: Iterable[str] = ()) -> tuple[str, ...]:
    """A sentence for each key that was set in vain, with the one that the model reads.

    Args:
        cfg: the config; a threshold counts as set if it has another value than Detectron2's default and
            than the key that is read.
        overridden: keys that somebody has set on top, whatever their values are.
    """
    architecture: str = cfg.MODEL.META_ARCHITECTURE
    read = _READ_BY.get(architecture)
    if read is None or LAZY_KEY in cfg:
        return ()
    idle = next(section for section in _SECTIONS if section != read)
    wanted = set(overridden)
    notes = []
    for name in _TWINS:
        key, right = f"MODEL.{idle}.{name}", f"MODEL.{read}.{name}"
        in_file = name not in _ONLY_OVERRIDDEN and cfg[key] != DEFAULTS["MODEL"][idle][name]
        if (in_file or key in wanted) and cfg[key] != cfg[right]:
            notes.append(
                f"{key} {cfg[key]} changes nothing: a {architecture} reads {right}, which is {cfg[right]}."
            )
    return tuple(notes)
