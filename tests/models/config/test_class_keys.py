"""Which key says how many classes a model has."""

import pytest
from tiny_models import tiny_config

from models import Config
from models.config.class_keys import main_classes_key, stuff_classes_key, thing_classes_key
from models.config.lazy_tags import LAZY_KEY, TARGET_KEY


@pytest.mark.parametrize(
    ("architecture", "key"),
    [
        ("GeneralizedRCNN", "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("PanopticFPN", "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("RetinaNet", "MODEL.RETINANET.NUM_CLASSES"),
        ("SemanticSegmentor", "MODEL.SEM_SEG_HEAD.NUM_CLASSES"),
    ],
)
def test_the_key_of_the_classes_that_labels_name(architecture: str, key: str) -> None:
    assert main_classes_key(tiny_config(META_ARCHITECTURE=architecture)) == key


def test_the_key_of_the_stuff() -> None:
    cfg = tiny_config(META_ARCHITECTURE="PanopticFPN")
    assert stuff_classes_key(cfg) == "MODEL.SEM_SEG_HEAD.NUM_CLASSES"


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("detectron2.modeling.FCOS", "model.num_classes"),
        ("detectron2.modeling.GeneralizedRCNN", "model.roi_heads.num_classes"),
    ],
)
def test_a_lazy_config_has_keys_of_its_own(target: str, key: str) -> None:
    cfg = Config(tiny_config().to_dict() | {LAZY_KEY: {TARGET_KEY: target}})
    assert thing_classes_key(cfg) == key
    assert stuff_classes_key(cfg) == "model.sem_seg_head.num_classes"
