"""The files of an extended model."""

from pathlib import Path

import pytest
import torch
from tiny_models import tiny_config, tiny_model

from models import ModelError, extend_classes, load_config
from models.classes import ClassChanges, ExtendedModel, files, save_extended

PANOPTIC = {"META_ARCHITECTURE": "PanopticFPN", "MASK_ON": True}
STUFF = ("things", "sky", "sea", "sand", "road")


@pytest.fixture(scope="module")
def extended() -> ExtendedModel:
    return extend_classes(
        tiny_model(**PANOPTIC),
        tiny_config(**PANOPTIC),
        ["a", "b", "ü"],
        add=["d"],
        stuff_names=STUFF,
        stuff=ClassChanges(add=["snow"]),
    )


def test_all_files_are_written(extended: ExtendedModel, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model"
    written = save_extended(extended, out)
    assert [path.name for path in written] == [
        "model_final.pth",
        "labels.txt",
        "stuff_labels.txt",
        "config.yaml",
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in written)
    assert (out / "labels.txt").read_text("utf-8") == "a\nb\nü\nd\n"
    assert (out / "stuff_labels.txt").read_text("utf-8").split() == [*STUFF, "snow"]
    cfg = load_config(out / "config.yaml")
    assert cfg.MODEL.WEIGHTS == "model_final.pth"  # beside the config, wherever the folder goes
    assert cfg.override("MODEL.WEIGHTS", "") == extended.cfg
    content = torch.load(out / "model_final.pth", weights_only=True)
    assert content.keys() == {"model"}
    for name, tensor in content["model"].items():
        assert torch.equal(tensor, extended.state_dict[name])


def test_a_file_holds_no_more_than_the_tensors(tmp_path: Path) -> None:
    model = tiny_model()
    state = {
        name: torch.cat([tensor.flatten(), torch.zeros(100_000)])[: tensor.numel()].view(
            tensor.shape
        )
        for name, tensor in model.state_dict().items()
    }
    made = extend_classes(state, tiny_config(), ["a", "b", "c"], add=["d"])
    save_extended(made, tmp_path)
    assert (tmp_path / "model_final.pth").stat().st_size < 200_000


@pytest.mark.parametrize("name", ["model_final.pth", "labels.txt", "config.yaml"])
def test_nothing_is_overwritten(extended: ExtendedModel, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ModelError, match=f"has a {name} already"):
        save_extended(extended, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_half_file_stays(
    extended: ExtendedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(content, file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.torch, "save", full)
    with pytest.raises(ModelError, match="cannot be written: No space left on device"):
        save_extended(extended, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(extended: ExtendedModel, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        save_extended(extended, tmp_path / "out")
