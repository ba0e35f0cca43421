"""configurable: constructors that take keywords, or a config."""

from typing import Any

import pytest

from models.config import Config, default_config
from models.configurable import configurable


class Head:
    @configurable
    def __init__(self, width: int, *, depth: int = 1, name: str = "") -> None:
        """Makes a head."""
        self.values = (width, depth, name)

    @classmethod
    def from_config(cls, cfg: Config, width: int) -> dict[str, Any]:
        return {"width": width, "depth": cfg.MODEL.RESNETS.DEPTH}


class NamedHead(Head):
    """Extends the config half alone."""

    @classmethod
    def from_config(cls, cfg: Config, width: int) -> dict[str, Any]:
        return super().from_config(cfg, width) | {"name": "mine"}


class AnyHead(Head):
    @classmethod
    def from_config(cls, cfg: Config, **kwargs: Any) -> dict[str, Any]:
        return {"width": 1, **kwargs}


@pytest.fixture
def cfg() -> Config:
    return default_config()


def test_explicit_arguments_go_to_the_constructor() -> None:
    assert Head(3, depth=2).values == (3, 2, "")


def test_a_config_goes_through_from_config(cfg: Config) -> None:
    assert Head(cfg, 3).values == (3, 50, "")
    assert Head(cfg, width=3).values == (3, 50, "")


def test_a_config_can_be_a_keyword(cfg: Config) -> None:
    assert Head(cfg=cfg, width=3).values == (3, 50, "")


def test_keywords_that_from_config_does_not_name_override_it(cfg: Config) -> None:
    assert Head(cfg, 3, depth=7, name="x").values == (3, 7, "x")


def test_a_from_config_of_any_keywords_gets_them_all(cfg: Config) -> None:
    assert AnyHead(cfg, depth=7).values == (1, 7, "")


def test_a_subclass_extends_from_config_alone(cfg: Config) -> None:
    assert NamedHead(cfg, 3).values == (3, 50, "mine")


def test_a_missing_argument_is_a_type_error(cfg: Config) -> None:
    with pytest.raises(TypeError, match="width"):
        Head(cfg)


def test_the_constructor_keeps_its_documentation() -> None:
    assert Head.__init__.__doc__ == "Makes a head."
