"""``detserve inspect`` on configs that cannot be used: it says so and exits with 2."""

from pathlib import Path

import pytest

from service.cli.inspect import run
from service.settings import PRETRAINED


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("config.py", "model = 1", "LazyConfig"),
        ("config.yaml", "model: {_target_: os.system, command: ls}", "os.system"),
        ("config.yaml", "somebody: {elses: format}", "no key of a Detectron2 config"),
        ("config.yaml", "MODEL: {BACKBONE: {NAME: build_mine}}", "MODEL.BACKBONE.NAME"),
    ],
)
def test_a_config_that_no_model_can_be_built_of_is_unreadable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, says: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert run(path, config=None, as_json=False) == 2
    assert says in capsys.readouterr().err


def test_a_plug_in_makes_its_config_readable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "inspected_plugin.py"
    plugin.write_text(
        "from models import ROI_HEADS_REGISTRY, StandardROIHeads\n"
        "@ROI_HEADS_REGISTRY.register()\n"
        "class InspectedHeads(StandardROIHeads): pass\n"
    )
    config = tmp_path / "config.yaml"
    text = (PRETRAINED / "config.yaml").read_text()
    config.write_text(text.replace("NAME: StandardROIHeads", "NAME: InspectedHeads"))
    assert run(config, config=None, as_json=False) == 2
    assert run(config, config=None, as_json=False, plugins=[plugin]) == 0
    weights = PRETRAINED / "model_final.pth"
    assert run(weights, config=config, as_json=True, plugins=[plugin]) == 0
    assert "InspectedHeads" in capsys.readouterr().out


def test_a_plug_in_that_exits_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "leaving_plugin.py"
    plugin.write_text("raise SystemExit(3)")
    assert run(PRETRAINED / "config.yaml", config=None, as_json=False, plugins=[plugin]) == 2
    assert "SystemExit" in capsys.readouterr().err
