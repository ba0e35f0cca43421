"""The frozen config tree: how it reads, copies and dumps."""

import copy
import pickle

import pytest
import yaml

from models.config import Config, default_config
from models.errors import ConfigError


@pytest.fixture
def cfg() -> Config:
    return default_config()


def test_keys_read_as_attributes_items_and_dotted_paths(cfg: Config) -> None:
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80
    assert cfg["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] == 80
    assert cfg["MODEL.ROI_HEADS.NUM_CLASSES"] == 80
    assert cfg.get("MODEL.ROI_HEADS.NUM_CLASSES") == 80
    assert cfg.MODEL.get("ROI_HEADS.NUM_CLASSES") == 80


def test_get_gives_the_default_where_there_is_no_key(cfg: Config) -> None:
    assert cfg.get("MODEL.VIT.DEPTH", 12) == 12
    assert cfg.get("MODEL.MASK_ON.DEPTH") is None


def test_contains_knows_sections_and_paths(cfg: Config) -> None:
    assert "MODEL" in cfg
    assert "MODEL.MASK_ON" in cfg
    assert "MASK_ON" not in cfg
    assert 3 not in cfg


def test_a_section_is_a_mapping(cfg: Config) -> None:
    assert dict(cfg.MODEL.BACKBONE) == {"NAME": "build_resnet_backbone", "FREEZE_AT": 2}
    assert len(cfg.MODEL.BACKBONE) == 2


def test_a_wrong_key_is_named_in_full_with_close_matches(cfg: Config) -> None:
    with pytest.raises(AttributeError, match=r"MODEL\.ROI_HEAD\..*MODEL\.ROI_HEADS"):
        _ = cfg.MODEL.ROI_HEAD
    with pytest.raises(KeyError, match=r"MODEL\.ROI_HEADS\.CLASSES"):
        cfg["MODEL.ROI_HEADS.CLASSES"]


def test_a_path_through_a_value_is_no_key(cfg: Config) -> None:
    with pytest.raises(KeyError, match="is a value, not a section"):
        cfg["MODEL.MASK_ON.X"]


def test_nothing_can_be_set_or_deleted(cfg: Config) -> None:
    with pytest.raises(AttributeError, match=r"override\('MODEL.MASK_ON'"):
        cfg.MODEL.MASK_ON = True
    with pytest.raises(AttributeError, match="frozen"):
        del cfg.MODEL.MASK_ON
    with pytest.raises(TypeError):
        cfg["VERSION"] = 1  # type: ignore[index]  # a Config is read-only: that is the test


def test_a_list_that_was_read_is_the_readers_own(cfg: Config) -> None:
    cfg.MODEL.ANCHOR_GENERATOR.SIZES[0].append(1024)
    cfg.to_dict()["MODEL"]["PIXEL_STD"].clear()
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[32, 64, 128, 256, 512]]
    assert cfg.MODEL.PIXEL_STD == [1.0, 1.0, 1.0]


def test_override_returns_a_changed_copy(cfg: Config) -> None:
    changed = cfg.override("MODEL.ROI_HEADS.NUM_CLASSES", 3)
    assert changed.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80
    assert changed != cfg
    assert changed.override("MODEL.ROI_HEADS.NUM_CLASSES", 80) == cfg


def test_override_of_a_section_keeps_its_other_keys(cfg: Config) -> None:
    changed = cfg.override("MODEL.RPN", {"NMS_THRESH": 1})
    assert changed.MODEL.RPN.NMS_THRESH == 1.0
    assert changed.MODEL.RPN.HEAD_NAME == "StandardRPNHead"


def test_override_works_below_a_section(cfg: Config) -> None:
    section = cfg.MODEL.override("ROI_HEADS.NUM_CLASSES", 3)
    assert section.ROI_HEADS.NUM_CLASSES == 3
    with pytest.raises(ConfigError, match=r"MODEL\.ROI_HEADS\.NUM_CLASSES must be"):
        cfg.MODEL.override("ROI_HEADS.NUM_CLASSES", "three")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("MODEL.ROI_HEADS.NUM_CLASSES", "three", "a whole number, not the text 'three'"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", True, "a whole number, not True"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 3.0, "a whole number, not the number 3.0"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", None, "a whole number, not nothing"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 1 << 70, "at most 64 bits, not a very large number"),
        ("MODEL.MASK_ON", 1, "True or False, not the whole number 1"),
        ("MODEL.RPN.NMS_THRESH", "high", "a number, not the text 'high'"),
        ("MODEL.RPN.NMS_THRESH", 10**400, "a number, not a very large number"),
        ("MODEL.RPN.IN_FEATURES", "p2", "a list, not the text 'p2'"),
        ("MODEL.PIXEL_MEAN", [1, 2, "x"], "a list of numbers"),
        ("MODEL.RPN.IN_FEATURES", [2, 3], "a list of texts"),
        ("MODEL.WEIGHTS", 3, "text, not the whole number 3"),
        ("MODEL.RPN", 3, "a section"),
        ("MODEL.MASK_ON", {"A": 1}, "True or False, not a section"),
    ],
)
def test_a_value_of_another_type_is_refused(
    cfg: Config, key: str, value: object, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        cfg.override(key, value)
    assert caught.value.message.startswith(key)
    assert caught.value.details["key"] == key


def test_override_of_a_key_that_does_not_exist_is_refused(cfg: Config) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean MODEL\.ROI_HEADS\.NUM_CLASSES"):
        cfg.override("MODEL.ROI_HEADS.NUM_CLASS", 3)


def test_lists_and_tuples_take_the_kind_of_their_default(cfg: Config) -> None:
    assert cfg.override("INPUT.MIN_SIZE_TRAIN", [640]).INPUT.MIN_SIZE_TRAIN == (640,)
    assert cfg.override("MODEL.PIXEL_STD", (1, 2, 3)).MODEL.PIXEL_STD == [1, 2, 3]


def test_dump_is_plain_yaml_that_gives_the_same_values(cfg: Config) -> None:
    text = cfg.dump()
    values = yaml.safe_load(text)
    assert not any(mark in text for mark in ("!!", "&id", "*id"))
    assert values["VERSION"] == 2
    assert values["MODEL"]["RPN"]["BBOX_REG_WEIGHTS"] == [1.0, 1.0, 1.0, 1.0]
    assert values["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] == 80


def test_pickle_and_copies_are_equal(cfg: Config) -> None:
    section = cfg.MODEL.RPN
    for node in (cfg, section):
        assert pickle.loads(pickle.dumps(node)) == node
        assert copy.deepcopy(node) == node
        assert copy.copy(node) == node
    with pytest.raises(AttributeError, match=r"MODEL\.RPN\.X"):
        _ = pickle.loads(pickle.dumps(section)).X


def test_repr_names_the_section(cfg: Config) -> None:
    expected = "Config(MODEL.BACKBONE: {'NAME': 'build_resnet_backbone', 'FREEZE_AT': 2})"
    assert repr(cfg.MODEL.BACKBONE) == expected


def test_defaults_have_no_unknown_keys(cfg: Config) -> None:
    assert cfg.unknown_keys == ()


def test_unknown_keys_are_named_in_full() -> None:
    cfg = Config({"MODEL": {"VIT": {"DEPTH": 12, "EMPTY": {}}, "MASK_ON": True}, "EXTRA": 1})
    assert cfg.unknown_keys == ("EXTRA", "MODEL.VIT.DEPTH", "MODEL.VIT.EMPTY")
    assert cfg.MODEL.VIT.unknown_keys == ("MODEL.VIT.DEPTH", "MODEL.VIT.EMPTY")
