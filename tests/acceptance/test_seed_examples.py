"""How many classes can a model tell apart? The three well-known answers, written with the names here:
the config's number, a head of one's own, and a last layer that is put in another one's place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import ModelError, build_model, num_classes, replace_predictor, zoo
from models.config import Config
from models.heads import FastRCNNOutputLayers
from models.layers import ShapeSpec
from models.structures import Boxes, Instances

NAME = "COCO-Detection/faster_rcnn_R_50_FPN_3x"
KEY = "MODEL.ROI_HEADS.NUM_CLASSES"
REGIONS = 6


def config(count: int) -> Config:
    return zoo.get(NAME).config().override(KEY, count)


@pytest.fixture
def features() -> Tensor:
    """What the box head makes of so many regions: the predictor's input."""
    return torch.randn(REGIONS, 1024, generator=torch.Generator().manual_seed(0))


def built(count: int) -> Any:
    """A new model of so many classes."""
    torch.manual_seed(0)
    return build_model(config(count)).eval()


def picture() -> dict[str, Any]:
    return {"image": torch.zeros(3, 64, 96, dtype=torch.uint8)}


def labelled_picture() -> dict[str, Any]:
    truth = Instances(
        (64, 96),
        gt_boxes=Boxes(torch.tensor([[8.0, 8.0, 60.0, 50.0]])),
        gt_classes=torch.tensor([4]),
    )
    return {**picture(), "instances": truth}


def test_the_config_decides() -> None:
    cfg = zoo.get(NAME).config()
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80
    with pytest.raises(AttributeError, match=r"use cfg\.override\('MODEL\.ROI_HEADS\.NUM_CLASSES'"):
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 20
    cfg = cfg.override(KEY, 20)
    with torch.device("meta"):
        model: Any = build_model(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == num_classes(model) == 20
    assert model.roi_heads.box_predictor.cls_score.out_features == 21  # and the background


class WithNewClasses(nn.Module):
    """Another last layer behind the original head, as it is usually written."""

    def __init__(self, original_head: Any, new_num_classes: int) -> None:
        super().__init__()
        self.original_head = original_head
        self.new_cls_score = nn.Linear(original_head.cls_score.in_features, new_num_classes)

    def forward(self, x: Tensor) -> Any:
        return self.new_cls_score(self.original_head(x))


def test_a_layer_behind_the_head_is_no_predictor(features: Tensor) -> None:
    model = built(80)
    model.roi_heads.box_predictor = WithNewClasses(model.roi_heads.box_predictor, 15)
    with pytest.raises(TypeError):  # PyTorch's: the head gives scores and boxes, not features
        model.roi_heads.box_predictor(features)
    with pytest.raises(
        ModelError, match=r"no roi_heads\.box_predictor\.cls_score\.weight"
    ) as caught:
        num_classes(model)
    assert "its parts are not the library's own" in caught.value.message


class Doubtful(FastRCNNOutputLayers):
    """A predictor of one's own, less sure of everything than the one it comes from."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = super().forward(x)
        return logits / 2, deltas


def test_a_modified_head(features: Tensor) -> None:
    model = built(80)
    original = model.roi_heads.box_predictor
    model.roi_heads.box_predictor = Doubtful(
        input_shape=ShapeSpec(channels=original.cls_score.in_features),
        box2box_transform=original.box2box_transform,
        num_classes=80,
        test_score_thresh=0.0,
    )
    assert replace_predictor(model, 15) is model
    assert isinstance(model.roi_heads.box_predictor, Doubtful)
    with torch.no_grad():
        logits, deltas = model.roi_heads.box_predictor(features)
        found = model([picture()])[0]["instances"]
    assert (logits.shape, deltas.shape) == ((REGIONS, 16), (REGIONS, 15 * 4))
    assert num_classes(model) == 15
    assert len(found) > 0
    assert int(found.pred_classes.max()) < 15


def test_a_last_layer_that_forgets_the_background(features: Tensor) -> None:
    model = built(5)
    predictor = model.roi_heads.box_predictor
    predictor.cls_score = nn.Linear(predictor.cls_score.in_features, 5)
    sentence = "5 classes and the background, which comes last, need 6. Let replace_predictor"
    with pytest.raises(ModelError, match=f"has 5 rows, but the model's {sentence}"):
        num_classes(model)
    # Nothing is answered or learned by it either: the fifth class would be the background.
    for use in (
        lambda: predictor(features),
        lambda: model([picture()]),
        lambda: model.train()([labelled_picture()]),
    ):
        with pytest.raises(ModelError, match=f"cls_score gives 5 scores, but {sentence}"):
            use()
    replace_predictor(model, 5)
    assert num_classes(model) == 5
    assert sum(model.train()([labelled_picture()]).values()).isfinite()


def test_the_last_layers_for_another_number_of_classes(features: Tensor) -> None:
    model = built(80)
    replace_predictor(model, 5)
    predictor = model.roi_heads.box_predictor
    with torch.no_grad():
        logits, deltas = predictor(features)
    assert predictor.cls_score.out_features == 6
    assert (logits.shape, deltas.shape) == ((REGIONS, 6), (REGIONS, 5 * 4))
    losses = model.train()([labelled_picture()])
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}
    sum(losses.values()).backward()
    assert bool(predictor.cls_score.weight.grad[4].any())  # the fifth class learns
