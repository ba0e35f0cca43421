"""MMDetBackbone: foreign modules as backbones, under an FPN and in a whole R-CNN."""

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork

from models import (
    BACKBONE_REGISTRY,
    FPN,
    Config,
    ConfigError,
    GeneralizedRCNN,
    MMDetBackbone,
    Predictor,
    ShapeSpec,
    build_model,
    load_checkpoint,
    load_config,
)
from models.backbones import LastLevelMaxPool

LAYERS = {f"layer{i}": f"layer{i}" for i in range(1, 5)}
SHAPES = [ShapeSpec(channels=64 * 2**i, stride=4 * 2**i) for i in range(4)]


class Stages(nn.Module):
    """Returns its input pooled by 4, 8, ... in the container that a test asks for."""

    def __init__(self, number: int = 2, container: Any = list) -> None:
        super().__init__()
        self.number, self.container = number, container

    def forward(self, x: Tensor) -> Any:
        pools = (nn.functional.avg_pool2d(x, 4 * 2**i) for i in range(self.number))
        return self.container(pools)


def two_shapes() -> list[ShapeSpec]:
    return [ShapeSpec(channels=3, stride=4), ShapeSpec(channels=3, stride=8)]


def foreign_resnet() -> nn.Module:
    torch.manual_seed(0)
    return create_feature_extractor(resnet18(weights=None), LAYERS)


@BACKBONE_REGISTRY.register()
def build_foreign_fpn(cfg: Config, input_shape: ShapeSpec) -> FPN:
    bottom_up = MMDetBackbone(foreign_resnet(), output_shapes=SHAPES)
    return FPN(bottom_up, list(bottom_up.output_shape()), 64, top_block=LastLevelMaxPool())


@pytest.fixture
def cfg(shapes_files: tuple[Path, Path]) -> Config:
    name = ["MODEL.BACKBONE.NAME", "build_foreign_fpn"]
    return load_config(shapes_files[0], [*name, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0])


@pytest.mark.parametrize("container", [list, tuple, lambda maps: OrderedDict(enumerate(maps))])
def test_feature_maps_get_names_in_order(container: Any) -> None:
    backbone = MMDetBackbone(Stages(container=container), output_shapes=two_shapes())
    features = backbone(torch.randn(1, 3, 32, 64))
    assert {name: tuple(value.shape[2:]) for name, value in features.items()} == {
        "out0": (8, 16),
        "out1": (4, 8),
    }
    assert list(backbone.output_shape().items()) == [
        ("out0", two_shapes()[0]),
        ("out1", two_shapes()[1]),
    ]
    assert backbone.size_divisibility == 0


def test_names_can_be_given() -> None:
    backbone = MMDetBackbone(Stages(), output_shapes=two_shapes(), output_names=["res2", "res3"])
    assert list(backbone(torch.zeros(1, 3, 8, 8))) == list(backbone.output_shape())
    assert list(backbone.output_shape()) == ["res2", "res3"]


def test_a_neck_takes_the_outputs_as_they_come() -> None:
    body = IntermediateLayerGetter(resnet18(weights=None), LAYERS)
    neck = FeaturePyramidNetwork([spec.known_channels for spec in SHAPES], 16)
    shapes = [ShapeSpec(channels=16, stride=spec.stride) for spec in SHAPES]
    backbone = MMDetBackbone(body, neck, output_shapes=shapes).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features, expected = backbone(image), neck(body(image))
    assert list(features) == ["out0", "out1", "out2", "out3"]
    for ours, theirs in zip(features.values(), expected.values(), strict=True):
        assert torch.equal(ours, theirs)
    assert {name.split(".")[0] for name in backbone.state_dict()} == {"backbone", "neck"}


def test_another_number_of_feature_maps_is_an_error() -> None:
    backbone = MMDetBackbone(Stages(3), output_shapes=two_shapes())
    with pytest.raises(
        ValueError, match=r"Stages returned 3 feature maps.*describes 2 \(out0, out1"
    ):
        backbone(torch.zeros(1, 3, 32, 32))


def test_a_single_tensor_is_an_error() -> None:
    backbone = MMDetBackbone(nn.Conv2d(3, 2, 1), output_shapes=two_shapes())
    with pytest.raises(TypeError, match="Conv2d returned a Tensor; MMDetBackbone needs a list"):
        backbone(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("names", [["one"], ["twice", "twice"]])
def test_names_must_fit_the_shapes(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="output_names"):
        MMDetBackbone(Stages(), output_shapes=two_shapes(), output_names=names)


def test_a_config_without_mmdetection_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmdet", None)  # as if not installed, wherever this runs
    with pytest.raises(ConfigError, match=r"\(ResNet\), which needs mmdetection 2.x.*nn\.Module"):
        MMDetBackbone({"type": "ResNet", "depth": 50}, output_shapes=two_shapes())
    with pytest.raises(ConfigError, match="The neck is given as a config"):
        MMDetBackbone(Stages(), Config({"type": "FPN"}), output_shapes=two_shapes())


def test_a_config_is_built_by_mmdetection(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class FakeMMDet(ModuleType):
        @staticmethod
        def build_backbone(config: Any) -> nn.Module:
            asked.append(config)
            return Stages(config["number"])

    monkeypatch.setitem(sys.modules, "mmdet", ModuleType("mmdet"))
    monkeypatch.setitem(sys.modules, "mmdet.models", FakeMMDet("mmdet.models"))
    config = Config({"type": "Stages", "number": 2, "init_cfg": {"type": "Pretrained"}})
    backbone = MMDetBackbone(config, output_shapes=two_shapes())
    assert len(backbone(torch.zeros(1, 3, 8, 8))) == 2
    assert asked == [{"type": "Stages", "number": 2, "init_cfg": {"type": "Pretrained"}}]
    assert type(asked[0]) is type(asked[0]["init_cfg"]) is dict
    with pytest.raises(ConfigError, match=r"build_neck.*Install it"):  # as mmdetection 3 lacks it
        MMDetBackbone(Stages(), {"type": "FPN"}, output_shapes=two_shapes())


def test_something_else_is_an_error() -> None:
    with pytest.raises(ConfigError, match="a config of mmdetection, not a str"):
        MMDetBackbone("resnet18", output_shapes=two_shapes())  # type: ignore[arg-type]  # the wrong type is the test


def test_a_foreign_backbone_carries_an_rcnn(cfg: Config, shapes_picture: Any) -> None:
    model = build_model(cfg)
    assert isinstance(model, GeneralizedRCNN)
    assert model.size_divisibility == 32
    found = Predictor(model, cfg)(shapes_picture)
    assert len(found) > 0
    assert found.pred_masks.shape == (len(found), *shapes_picture.shape[:2])


def test_its_weights_go_to_a_file_and_back(cfg: Config, tmp_path: Path) -> None:
    model, other = build_model(cfg), build_model(cfg)
    prefix = "backbone.bottom_up.backbone.layer1.0.conv1.weight"
    nn.init.normal_(model.get_parameter(prefix))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    load_checkpoint(other, tmp_path / "model.safetensors")
    loaded = other.state_dict()
    assert prefix in loaded
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_a_timm_model_is_a_backbone(cfg: Config, shapes_picture: Any, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is no dependency; the proof is run by hand")
    torch.manual_seed(0)
    net = timm.create_model("convnext_atto", features_only=True, pretrained=False)
    info = zip(net.feature_info.channels(), net.feature_info.reduction(), strict=True)
    shapes = [ShapeSpec(channels=channels, stride=stride) for channels, stride in info]
    bottom_up = MMDetBackbone(net, output_shapes=shapes).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(bottom_up(image).values(), net(image), strict=True):
            assert torch.equal(ours, theirs)
    model: Any = build_model(cfg)
    model.backbone = FPN(
        bottom_up, list(bottom_up.output_shape()), 64, top_block=LastLevelMaxPool()
    )
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    before = Predictor(model, cfg)(shapes_picture)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    load_checkpoint(model, tmp_path / "model.safetensors")
    after = Predictor(model, cfg)(shapes_picture)
    assert len(before) > 0
    assert torch.equal(before.scores, after.scores)
    assert torch.equal(before.pred_masks, after.pred_masks)
