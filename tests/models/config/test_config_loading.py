"""From YAML files to a config: bases, versions, overrides, the model root."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from models.config import default_config, load_config
from models.errors import ConfigError, PathNotAllowedError

Write = Callable[[str, str], Path]

GOLDEN = sorted(
    path
    for path in (Path(__file__).parents[2] / "data" / "golden").glob("*/config.yaml")
    if not path.parent.name.startswith("lazy__")  # these have tests of their own
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


def test_a_file_lies_on_top_of_the_defaults(write: Write) -> None:
    cfg = load_config(write("c.yaml", "MODEL:\n  MASK_ON: true\n"))
    assert cfg.MODEL.MASK_ON is True
    assert cfg == default_config().override("MODEL.MASK_ON", True)


def test_a_dump_loads_as_the_same_config(write: Write) -> None:
    source = "MODEL:\n  RPN:\n    BBOX_REG_WEIGHTS: (2, 2, 1, 1)\n  MINE: {A: [1, 2], B: x}\n"
    cfg = load_config(write("c.yaml", source))
    assert load_config(write("dumped.yaml", cfg.dump())) == cfg


def test_text_that_spells_a_literal_is_that_literal(write: Write) -> None:
    cfg = load_config(
        write(
            "c.yaml",
            "INPUT:\n  MIN_SIZE_TRAIN: (640, 800)\nSOLVER:\n  BASE_LR: 1e-4\n  STEPS: '(10,)'\n"
            "MODEL:\n  WEIGHTS: '123'\n  RPN: {CONV_DIMS: '[-1, -1]'}\n",
        )
    )
    assert cfg.INPUT.MIN_SIZE_TRAIN == (640, 800)
    assert cfg.SOLVER.BASE_LR == 1e-4
    assert cfg.SOLVER.STEPS == (10,)
    assert cfg.MODEL.WEIGHTS == "123"
    assert cfg.MODEL.RPN.CONV_DIMS == [-1, -1]


def test_whole_numbers_fit_float_keys(write: Write) -> None:
    value = load_config(write("c.yaml", "SOLVER: {BASE_LR: 1}")).SOLVER.BASE_LR
    assert isinstance(value, float)


def test_null_is_no_norm_and_an_empty_section_is_empty(write: Write) -> None:
    cfg = load_config(write("c.yaml", "MODEL: {FPN: {NORM: null}}\nSOLVER:\n"))
    assert cfg == default_config()


def test_a_default_of_none_takes_a_number(write: Write) -> None:
    cfg = load_config(write("c.yaml", "SOLVER: {WEIGHT_DECAY_BIAS: 0.0001}"))
    assert cfg.SOLVER.WEIGHT_DECAY_BIAS == 0.0001


def test_unknown_keys_are_kept_and_reported(write: Write) -> None:
    cfg = load_config(write("c.yaml", "MODEL:\n  SWIN:\n    DEPTHS: (2, 6)\n  MASK_0N: true\n"))
    assert cfg.MODEL.SWIN.DEPTHS == [2, 6]
    assert cfg.unknown_keys == ("MODEL.MASK_0N", "MODEL.SWIN.DEPTHS")


def test_a_value_of_another_type_names_key_and_value(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"MODEL.MASK_ON must be True or False, not the text 'x'"):
        load_config(write("c.yaml", "MODEL: {MASK_ON: x}"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_a_config_that_detectron2_dumped_dumps_as_it_was(path: Path) -> None:
    cfg = load_config(path)
    assert cfg.unknown_keys == ()
    assert yaml.safe_load(cfg.dump()) == yaml.safe_load(path.read_text())


# Overrides


def test_overrides_are_keys_and_values_in_turn(write: Write) -> None:
    cfg = load_config(
        write("c.yaml", "MODEL: {MINE: {A: 1}}"),
        ["MODEL.ROI_HEADS.NUM_CLASSES", "3", "MODEL.MASK_ON", "true", "MODEL.KEYPOINT_ON", "True",
         "MODEL.RPN.IN_FEATURES", "[p2, p3]", "MODEL.WEIGHTS", "1.0", "MODEL.MINE.A", "x",
         "INPUT.MIN_SIZE_TRAIN", (640,)],
    )  # fmt: skip
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert cfg.MODEL.MASK_ON is True
    assert cfg.MODEL.KEYPOINT_ON is True
    assert cfg.MODEL.RPN.IN_FEATURES == ["p2", "p3"]
    assert cfg.MODEL.WEIGHTS == "1.0"
    assert cfg.MODEL.MINE.A == "x"
    assert cfg.INPUT.MIN_SIZE_TRAIN == (640,)


@pytest.mark.parametrize("overrides", [["MODEL.MASK_ON"], "MODEL.MASK_ON True", [3, 4]])
def test_overrides_of_another_form_are_refused(write: Write, overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"Overrides come as|must be text"):
        load_config(write("c.yaml", "VERSION: 2"), overrides)


def test_an_override_of_an_unknown_key_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean MODEL\.MASK_ON"):
        load_config(write("c.yaml", "VERSION: 2"), ["MODEL.MASK_0N", "True"])


# _BASE_


def test_the_child_wins_over_its_base(write: Write) -> None:
    write("base/base.yaml", "MODEL: {MASK_ON: true, KEYPOINT_ON: true}")
    write("middle.yaml", "_BASE_: base/base.yaml\nMODEL: {KEYPOINT_ON: false}")
    cfg = load_config(write("sub/c.yaml", "_BASE_: ../middle.yaml\nVERSION: 2"))
    assert (cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON) == (True, False)
    assert cfg.unknown_keys == ()


def test_of_several_bases_the_later_one_wins(write: Write) -> None:
    write("a.yaml", "SEED: 1\nVIS_PERIOD: 1")
    write("b.yaml", "SEED: 2")
    cfg = load_config(write("c.yaml", "_BASE_: [a.yaml, b.yaml]"))
    assert (cfg.SEED, cfg.VIS_PERIOD) == (2, 1)


def test_a_base_may_be_absolute_or_in_the_home_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write("home/a.yaml", "SEED: 1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_config(write("c.yaml", f"_BASE_: {base}")).SEED == 1
    assert load_config(write("d.yaml", "_BASE_: ~/a.yaml")).SEED == 1


def test_one_base_may_be_reached_twice(write: Write) -> None:
    write("a.yaml", "SEED: 1")
    write("b.yaml", "_BASE_: a.yaml")
    assert load_config(write("c.yaml", "_BASE_: [a.yaml, b.yaml]")).SEED == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_BASE_: c.yaml", "circle"),
        ("_BASE_: https://example.org/base.yaml", "Download it"),
        ("_BASE_: missing.yaml", "no config file 'missing.yaml'"),
        ("_BASE_: 3", "must be a path"),
        ("_BASE_: ['']", "must be a path"),
    ],
)
def test_a_base_that_cannot_be_used_is_refused(write: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write("c.yaml", text))


def test_a_chain_that_does_not_end_is_refused(write: Write) -> None:
    for index in range(40):
        path = write(f"{index}.yaml", f"_BASE_: {index - 1}.yaml" if index else "SEED: 1")
    with pytest.raises(ConfigError, match="more than 20 files"):
        load_config(path)


# Versions


@pytest.mark.parametrize("marker", ["MODEL: {WEIGHT: w.pkl}", "TEST: {AUG_ON: true}"])
def test_version_1_is_guessed_from_its_keys(write: Write, marker: str) -> None:
    cfg = load_config(write("c.yaml", marker))
    assert cfg.unknown_keys == ()
    assert cfg.VERSION == 2


def test_version_1_keys_have_new_names(write: Write) -> None:
    cfg = load_config(
        write(
            "c.yaml",
            "VERSION: 1\nMODEL:\n  WEIGHT: w.pkl\n  RPN_HEAD: {NAME: MyHead}\n"
            "  RPN: {ANCHOR_SIZES: [[16]], ANCHOR_ASPECT_RATIOS: [[1.0]]}\n"
            "  RETINANET: {ANCHOR_SIZES: [[99]], ANCHOR_STRIDES: [8]}\n"
            "  ROI_HEADS: {NMS: 0.3, SCORE_THRESH: 0.2}\n"
            "TEST: {DETECTIONS_PER_IMG: 7, AUG_MIN_SIZES: [300]}\n",
        )
    )
    assert cfg.MODEL.WEIGHTS == "w.pkl"
    assert cfg.MODEL.RPN.HEAD_NAME == "MyHead"
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[16]]
    assert cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST == 0.3
    assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.2
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 7
    assert cfg.TEST.AUG.MIN_SIZES == (300,)
    assert cfg.unknown_keys == ()


def test_version_1_retinanet_has_anchors_of_its_own(write: Write) -> None:
    write("base.yaml", "MODEL: {META_ARCHITECTURE: RetinaNet}")
    text = "_BASE_: base.yaml\nVERSION: 1\nMODEL: {RETINANET: {ANCHOR_SIZES: [[99]]}}"
    assert load_config(write("c.yaml", text)).MODEL.ANCHOR_GENERATOR.SIZES == [[99]]


def test_a_version_1_child_wins_over_a_version_2_base(write: Write) -> None:
    write("base.yaml", "VERSION: 2\nMODEL: {WEIGHTS: base.pkl}")
    cfg = load_config(write("c.yaml", "_BASE_: base.yaml\nMODEL: {WEIGHT: child.pkl}"))
    assert cfg.MODEL.WEIGHTS == "child.pkl"


def test_a_version_2_child_wins_over_a_version_1_base(write: Write) -> None:
    write("base.yaml", "MODEL: {WEIGHT: base.pkl}\nTEST: {DETECTIONS_PER_IMG: 7}")
    cfg = load_config(write("c.yaml", "_BASE_: base.yaml\nVERSION: 2\nMODEL: {WEIGHTS: child.pkl}"))
    assert cfg.MODEL.WEIGHTS == "child.pkl"
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 7


def test_a_child_without_version_has_that_of_its_base(write: Write) -> None:
    write("base.yaml", "MODEL: {WEIGHT: base.pkl}")
    cfg = load_config(write("c.yaml", "_BASE_: base.yaml\nTEST: {DETECTIONS_PER_IMG: 7}"))
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 7


@pytest.mark.parametrize("version", ["3", "two", "-1", "true"])
def test_a_version_that_does_not_exist_is_refused(write: Write, version: str) -> None:
    with pytest.raises(ConfigError, match="VERSION"):
        load_config(write("c.yaml", f"VERSION: {version}"))


# Files


def test_a_python_config_says_how_to_dump_it(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"LazyConfig\.save"):
        load_config(write("c.py", "raise SystemExit"))


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config file"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="no config file"):
        load_config(tmp_path / "nul\0byte.yaml")


# The model root


def test_files_under_the_root_load(write: Write, tmp_path: Path) -> None:
    write("a.yaml", "SEED: 1")
    path = write("sub/c.yaml", "_BASE_: ../a.yaml")
    assert load_config(path, root=tmp_path).SEED == 1


def test_a_file_outside_the_root_is_not_allowed(write: Write, tmp_path: Path) -> None:
    path = write("c.yaml", "SEED: 1")
    (tmp_path / "root").mkdir()
    with pytest.raises(PathNotAllowedError):
        load_config(path, root=tmp_path / "root")


@pytest.mark.parametrize("base", ["../secret.yaml", "/etc/passwd", "~/x.yaml", "link.yaml"])
def test_a_base_outside_the_root_is_not_allowed(write: Write, tmp_path: Path, base: str) -> None:
    secret = write("secret.yaml", "SEED: 1")
    path = write("root/c.yaml", f"_BASE_: {base}")
    (tmp_path / "root/link.yaml").symlink_to(secret)
    with pytest.raises(PathNotAllowedError) as caught:
        load_config(path, root=tmp_path / "root")
    assert str(tmp_path) not in caught.value.message


def test_outside_the_root_missing_and_present_look_the_same(write: Write, tmp_path: Path) -> None:
    write("present.yaml", "SEED: 1")
    messages = []
    for name in ("present", "missing"):
        path = write("root/c.yaml", f"_BASE_: ../{name}.yaml")
        with pytest.raises(PathNotAllowedError) as caught:
            load_config(path, root=tmp_path / "root")
        messages.append(caught.value.message.replace(name, ""))
    assert messages[0] == messages[1]
