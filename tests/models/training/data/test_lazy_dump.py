"""Which files are dumps of Detectron2's Python configs."""

from pathlib import Path

import pytest
from golden import GOLDEN

from models import load_config
from models.errors import ConfigError
from models.training.data.lazy_dump import is_lazy_file, read_lazy_file

DUMP = GOLDEN / "lazy__fcos_R_50_FPN_1x" / "config.yaml"
YAML = GOLDEN / "custom__mask_rcnn_R_18_FPN" / "config.yaml"


def test_a_dump_is_read_with_all_its_parts() -> None:
    assert is_lazy_file(DUMP)
    assert read_lazy_file(DUMP).keys() >= {"dataloader", "lr_multiplier", "optimizer", "train"}


def test_a_yaml_config_is_none() -> None:
    assert not is_lazy_file(YAML)
    with pytest.raises(ConfigError, match="says how it is trained under INPUT and SOLVER"):
        read_lazy_file(YAML)


def test_what_is_written_here_of_a_lazy_config_is_none(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(load_config(DUMP).dump())
    assert not is_lazy_file(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        is_lazy_file(tmp_path / "none.yaml")
