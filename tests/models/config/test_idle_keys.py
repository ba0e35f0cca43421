"""Keys that were set in vain."""

from models import Config
from models.config import default_config
from models.config.idle_keys import idle_key_notes
from models.config.lazy_tags import LAZY_KEY

ROI, RETINA = "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.RETINANET.SCORE_THRESH_TEST"


def config(architecture: str) -> Config:
    return default_config().override("MODEL.META_ARCHITECTURE", architecture)


def test_defaults_say_nothing() -> None:
    for architecture in ("GeneralizedRCNN", "RetinaNet", "SemanticSegmentor", "MyOwn"):
        assert idle_key_notes(config(architecture)) == ()


def test_a_threshold_in_the_other_detectors_section() -> None:
    assert idle_key_notes(config("RetinaNet").override(ROI, 0.5)) == (
        f"{ROI} 0.5 changes nothing: a RetinaNet reads {RETINA}, which is 0.05.",
    )
    (note,) = idle_key_notes(config("GeneralizedRCNN").override(RETINA, 0.5))
    assert f"a GeneralizedRCNN reads {ROI}" in note


def test_a_threshold_in_both_sections_is_no_mistake() -> None:
    assert idle_key_notes(config("RetinaNet").override(ROI, 0.5).override(RETINA, 0.5)) == ()


def test_an_override_with_the_default_value_was_meant_all_the_same() -> None:
    cfg = config("RetinaNet").override(RETINA, 0.3)
    assert idle_key_notes(cfg) == ()
    (note,) = idle_key_notes(cfg, [ROI])
    assert "0.05 changes nothing" in note


def test_a_number_of_classes_counts_where_it_was_typed() -> None:
    cfg = config("RetinaNet").override("MODEL.ROI_HEADS.NUM_CLASSES", 4)
    assert idle_key_notes(cfg) == ()
    (note,) = idle_key_notes(cfg, ["MODEL.ROI_HEADS.NUM_CLASSES"])
    assert "a RetinaNet reads MODEL.RETINANET.NUM_CLASSES, which is 80" in note


def test_a_lazy_config_does_not_read_them_at_all() -> None:
    values = config("RetinaNet").override(ROI, 0.5).to_dict()
    assert idle_key_notes(Config(values | {LAZY_KEY: {}})) == ()
