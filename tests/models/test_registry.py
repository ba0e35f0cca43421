"""Registries: adding and finding components by name."""

import pytest

from models.errors import ConfigError
from models.registry import Registry


def test_a_registered_component_is_found_by_its_own_name() -> None:
    registry = Registry("THINGS", "MODEL.THING")

    @registry.register()
    class Wheel:
        pass

    assert registry.get("Wheel") is Wheel
    assert "Wheel" in registry
    assert list(registry) == ["Wheel"]


def test_a_function_can_be_registered_and_stays_callable() -> None:
    registry = Registry("THINGS", "MODEL.THING")

    @registry.register()
    def build_wheel(cfg: object) -> int:
        return 4

    assert registry.get("build_wheel")(None) == build_wheel(None) == 4


def test_a_name_is_taken_only_once() -> None:
    registry = Registry("THINGS", "MODEL.THING")
    registry.add(dict)
    with pytest.raises(ValueError, match="'dict' is already registered in THINGS"):
        registry.add(dict)


def test_an_unknown_name_is_told_with_the_known_and_the_closest() -> None:
    registry = Registry("THINGS", "MODEL.THING")
    registry.add(dict)
    registry.add(list)
    with pytest.raises(ConfigError, match=r"known: dict, list\)\. Did you mean dict\?") as caught:
        registry.get("dictt")
    assert caught.value.details == {
        "key": "MODEL.THING",
        "name": "dictt",
        "known": ["dict", "list"],
    }


def test_an_empty_registry_knows_none() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^MODEL\.THING is 'Wheel'.*THINGS registry \(known: none\)\. .* registered first",
    ):
        Registry("THINGS", "MODEL.THING").get("Wheel")


def test_it_prints_its_name_and_components() -> None:
    registry = Registry("THINGS", "MODEL.THING")
    registry.add(dict)
    assert repr(registry) == "Registry(THINGS: dict)"
