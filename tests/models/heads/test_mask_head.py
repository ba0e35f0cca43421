"""Mask heads: layers and names, and the soft mask that each instance gets."""

import math

import pytest
import torch
from torch import Tensor

from models import (
    ROI_MASK_HEAD_REGISTRY,
    BaseMaskRCNNHead,
    BitMasks,
    Boxes,
    Instances,
    PolygonMasks,
    build_mask_head,
)
from models.config import Config, default_config
from models.errors import ConfigError
from models.heads import MaskRCNNConvUpsampleHead
from models.heads.mask_head import mask_rcnn_inference
from models.layers import ShapeSpec

REGION = ShapeSpec(channels=8, height=14, width=14)


def config(**head: object) -> Config:
    cfg = default_config().override("MODEL.ROI_HEADS.NUM_CLASSES", 5)
    for key, value in {"NUM_CONV": 2, "CONV_DIM": 32, **head}.items():
        cfg = cfg.override(f"MODEL.ROI_MASK_HEAD.{key}", value)
    return cfg


def detected(*classes: int) -> Instances:
    return Instances(
        (40, 60), pred_boxes=Boxes(torch.zeros(len(classes), 4)), pred_classes=torch.tensor(classes)
    ).to(torch.int64)


def none_detected() -> Instances:
    return detected(1)[:0]


def test_layers_have_the_names_of_checkpoints() -> None:
    head = build_mask_head(config(), REGION)
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert shapes == {
        "mask_fcn1.weight": (32, 8, 3, 3),
        "mask_fcn1.bias": (32,),
        "mask_fcn2.weight": (32, 32, 3, 3),
        "mask_fcn2.bias": (32,),
        "deconv.weight": (32, 32, 2, 2),
        "deconv.bias": (32,),
        "predictor.weight": (5, 32, 1, 1),
        "predictor.bias": (5,),
    }


@pytest.mark.parametrize(("agnostic", "channels"), [(False, 5), (True, 1)])
def test_masks_are_twice_the_size_of_a_region(agnostic: bool, channels: int) -> None:
    head = build_mask_head(config(CLS_AGNOSTIC_MASK=agnostic), REGION)
    assert head.layers(torch.zeros(3, 8, 14, 14)).shape == (3, channels, 28, 28)


def test_a_norm_takes_the_place_of_the_bias() -> None:
    names = set(build_mask_head(config(NORM="GN"), REGION).state_dict())
    assert "mask_fcn1.norm.weight" in names
    assert "mask_fcn1.bias" not in names


def test_without_convolutions_the_deconvolution_comes_first() -> None:
    head = build_mask_head(config(NUM_CONV=0), REGION)
    assert head.deconv.in_channels == 8
    assert head.layers(torch.zeros(2, 8, 14, 14)).shape == (2, 5, 28, 28)


def test_each_instance_gets_the_channel_of_its_class() -> None:
    logits = torch.randn(3, 5, 4, 4)
    instances = [detected(4, 0), detected(2)]
    mask_rcnn_inference(logits, instances)
    assert torch.equal(instances[0].pred_masks, logits[[0, 1], [4, 0]][:, None].sigmoid())
    assert torch.equal(instances[1].pred_masks, logits[2, 2][None, None].sigmoid())


def test_class_agnostic_masks_ignore_the_class() -> None:
    logits = torch.randn(2, 1, 4, 4)
    instances = [detected(4, 0)]
    mask_rcnn_inference(logits, instances)
    assert torch.equal(instances[0].pred_masks, logits.sigmoid())


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("norm", ["", "GN"])
def test_no_instances_get_empty_masks(agnostic: bool, norm: str) -> None:
    head = build_mask_head(config(CLS_AGNOSTIC_MASK=agnostic, NORM=norm), REGION).eval()
    (instances,) = head(torch.zeros(0, 8, 14, 14), [none_detected()])
    assert instances.pred_masks.shape == (0, 1, 28, 28)


def test_an_image_without_instances_between_others_is_no_error() -> None:
    instances = [detected(1), none_detected(), detected(2)]
    mask_rcnn_inference(torch.zeros(2, 5, 4, 4), instances)
    assert [len(x.pred_masks) for x in instances] == [1, 0, 1]


def test_the_instances_are_returned_themselves() -> None:
    instances = [detected(1)]
    assert (
        build_mask_head(config(), REGION).eval()(torch.zeros(1, 8, 14, 14), instances) is instances
    )


def test_a_head_needs_channels() -> None:
    with pytest.raises(ConfigError, match="at least the channels"):
        MaskRCNNConvUpsampleHead(REGION, num_classes=5, conv_dims=[])


def test_the_base_alone_predicts_nothing() -> None:
    with pytest.raises(NotImplementedError):
        BaseMaskRCNNHead()(torch.zeros(1, 8, 14, 14), [detected(1)])


def test_a_subclass_implements_only_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    class FullMaskHead(BaseMaskRCNNHead):
        """Every pixel is foreground."""

        def layers(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 1, 28, 28), 100.0)

    monkeypatch.setitem(ROI_MASK_HEAD_REGISTRY._components, "FullMaskHead", FullMaskHead)
    head = build_mask_head(config(NAME="FullMaskHead"), REGION).eval()
    (instances,) = head(torch.zeros(1, 8, 14, 14), [detected(3)])
    assert (instances.pred_masks == 1).all()


def learnt(*classes: int, masks: BitMasks | PolygonMasks | None = None) -> Instances:
    """Proposals of the whole image, 4 x 4, whose left half is foreground."""
    if masks is None:
        frames = torch.zeros(len(classes), 4, 4)
        frames[:, :, :2] = 1
        masks = BitMasks(frames)
    return Instances(
        (4, 4),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0, 4, 4]]).repeat(len(classes), 1)),
        gt_classes=torch.tensor(classes, dtype=torch.int64),
        gt_masks=masks,
    )


LEFT_POLYGON = [0.0, 0, 2, 0, 2, 4, 0, 4]


@pytest.mark.parametrize("masks", [None, PolygonMasks([[LEFT_POLYGON]])])
def test_the_loss_is_the_mean_entropy_of_the_pixels(masks: PolygonMasks | None) -> None:
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1] = torch.tensor([[2.0, 2.0], [2.0, -1.0]])  # wrong in the upper right
    logits[0, [0, 2]] = 100.0  # other classes cost nothing
    head = BaseMaskRCNNHead(loss_weight=3.0)
    losses = head.losses(logits, [learnt(1, masks=masks)])
    right, wrong, unsure = (math.log1p(math.exp(-z)) for z in (2.0, -2.0, 1.0))
    assert list(losses) == ["loss_mask"]
    assert float(losses["loss_mask"]) == pytest.approx(3 * (2 * right + wrong + unsure) / 4)


def test_the_figures_tell_what_was_wrong() -> None:
    logits = torch.tensor([[2.0, 2.0], [2.0, -1.0]])[None, None]
    head = BaseMaskRCNNHead()
    head.losses(logits, [learnt(0)])
    assert {name: float(value) for name, value in head.training_figures.items()} == {
        "mask_rcnn/accuracy": 0.75,
        "mask_rcnn/false_positive": 0.5,
        "mask_rcnn/false_negative": 0.0,
    }
    head.losses(logits[:0], [learnt()])
    assert head.training_figures == {}


@pytest.mark.parametrize("agnostic", [False, True])
def test_the_masks_of_classes_alone_cost_what_all_masks_cost(agnostic: bool) -> None:
    torch.manual_seed(0)
    head = build_mask_head(config(CLS_AGNOSTIC_MASK=agnostic), REGION)
    torch.nn.init.normal_(head.predictor.weight)
    torch.nn.init.normal_(head.predictor.bias)
    x = torch.randn(3, 8, 14, 14)
    instances = [learnt(4, 0), learnt(), learnt(4)]
    gradients = []
    for forward in (MaskRCNNConvUpsampleHead.forward, BaseMaskRCNNHead.forward):
        head.zero_grad()
        losses = forward(head, x, instances)
        losses["loss_mask"].backward()
        gradients.append({name: p.grad.clone() for name, p in head.named_parameters()})
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("norm", ["", "GN"])
def test_without_foreground_the_loss_is_a_connected_zero(agnostic: bool, norm: str) -> None:
    head = build_mask_head(config(CLS_AGNOSTIC_MASK=agnostic, NORM=norm), REGION)
    loss = head(torch.zeros(0, 8, 14, 14), [learnt(), learnt()])["loss_mask"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


def test_proposals_without_masks_are_told() -> None:
    without = learnt(1)
    without.remove("gt_masks")
    with pytest.raises(ValueError, match=r"none under 'gt_masks'.*MODEL.MASK_ON"):
        BaseMaskRCNNHead().losses(torch.zeros(1, 3, 2, 2), [without])
