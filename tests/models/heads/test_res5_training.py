"""Res5ROIHeads in training: boxes and masks share the regions that res5 sees once."""

from typing import Any

import pytest
import torch
from tiny_models import tiny_config
from torch import Tensor

from models import BitMasks, Boxes, Instances, Res5ROIHeads, ShapeSpec, build_roi_heads

SIZE = (96, 128)
OBJECT, AWAY = [8.0, 4.0, 90.0, 60.0], [100.0, 70.0, 120.0, 90.0]


def heads(**overrides: Any) -> Res5ROIHeads:
    torch.manual_seed(0)
    keys = {
        "ROI_HEADS__NAME": "Res5ROIHeads",
        "ROI_HEADS__IN_FEATURES": ["res4"],
        "ROI_BOX_HEAD__POOLER_RESOLUTION": 6,
        "ROI_MASK_HEAD__NUM_CONV": 0,
        "RESNETS__RES2_OUT_CHANNELS": 8,
        "RESNETS__WIDTH_PER_GROUP": 2,
    }
    cfg = tiny_config(**keys | overrides)
    built: Res5ROIHeads = build_roi_heads(cfg, {"res4": ShapeSpec(channels=32, stride=16)})
    return built.train()


def step(built: Res5ROIHeads, *objects: list[float]) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(1, 32, 6, 8, generator=generator).requires_grad_()
    found = Instances(SIZE, proposal_boxes=Boxes(torch.tensor([OBJECT, AWAY])))
    masks = torch.zeros(len(objects), *SIZE, dtype=torch.bool)
    masks[:, 4:60, 8:90] = True
    truth = Instances(
        SIZE,
        gt_boxes=Boxes(torch.tensor(objects).reshape(-1, 4)),
        gt_classes=torch.zeros(len(objects), dtype=torch.int64),
        gt_masks=BitMasks(masks),
    )
    _, losses = built(None, {"res4": maps}, [found], [truth])
    return losses, maps


@pytest.mark.parametrize("objects", [(OBJECT,), ()])
def test_every_weight_gets_a_gradient(objects: tuple[list[float], ...]) -> None:
    built = heads(MASK_ON=True)
    losses, maps = step(built, *objects)
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask"}
    sum(losses.values()).backward()
    assert [name for name, p in built.named_parameters() if p.grad is None] == []
    assert bool(maps.grad.isfinite().all())
    assert (float(losses["loss_mask"].detach()) > 0) == bool(objects)


def test_the_mask_head_gets_the_regions_of_the_foreground() -> None:
    built = heads(MASK_ON=True)
    regions: list[Tensor] = []
    built.res5.register_forward_hook(lambda _, __, output: regions.append(output))
    seen: list[tuple[Tensor, list[list[float]]]] = []

    def forward(x: Tensor, instances: list[Instances]) -> dict[str, Tensor]:
        seen.append((x, instances[0].proposal_boxes.tensor.tolist()))
        return {"loss_mask": x.sum()}

    built.mask_head.forward = forward
    step(built, OBJECT)
    assert len(regions) == 1  # res5 ran once
    assert seen[0][1] == [OBJECT, OBJECT]  # the proposal, and the object itself
    torch.testing.assert_close(seen[0][0], regions[0][:2])


def test_without_a_mask_head_there_is_no_mask_loss() -> None:
    losses, _ = step(heads(), OBJECT)
    assert set(losses) == {"loss_cls", "loss_box_reg"}
