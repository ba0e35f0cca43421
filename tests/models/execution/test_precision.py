"""Half precision between float32 ends."""

import torch
from torch import Tensor, nn

from models.execution.precision import (
    heavy_parts,
    speed_of_bfloat16,
    use_half_precision_,
)
from models.layers.deform_conv import DeformConv2d


class Part(nn.Module):
    """Takes and gives all that parts of a detector do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("count", torch.tensor(3))
        self.seen: list[torch.dtype] = []

    def forward(self, x: Tensor, levels: list[Tensor], *, named: dict[str, Tensor]) -> object:
        self.seen = [x.dtype, levels[0].dtype, named["a"].dtype, named["index"].dtype]
        return {"out": self.layer(x)}, [self.layer(levels[0])], "text", None


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Part()
        self.roi_heads = nn.Module()
        self.roi_heads.box_head = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.roi_heads.box_predictor = nn.Linear(2, 2)


def call(model: Model) -> object:
    return model.backbone(
        torch.ones(4), [torch.ones(4)], named={"a": torch.ones(1), "index": torch.arange(2)}
    )


@torch.no_grad()
def test_a_part_computes_in_half_and_takes_and_gives_float32() -> None:
    model = Model()
    exact = call(model)
    use_half_precision_(model, torch.bfloat16)
    outputs = call(model)
    half = torch.bfloat16
    assert model.backbone.seen == [half, half, half, torch.int64]
    assert outputs[0]["out"].dtype == outputs[1][0].dtype == torch.float32
    assert outputs[2:] == ("text", None)
    torch.testing.assert_close(outputs[0]["out"], exact[0]["out"], rtol=2e-2, atol=2e-2)
    assert model.backbone.count.dtype == torch.int64


def test_every_stage_of_a_cascade_is_a_part_and_predictors_are_none() -> None:
    model = Model()
    assert heavy_parts(model) == [model.backbone, *model.roi_heads.box_head]
    use_half_precision_(model, torch.bfloat16)
    assert model.roi_heads.box_head[1].weight.dtype == torch.bfloat16
    assert model.roi_heads.box_predictor.weight.dtype == torch.float32


@torch.no_grad()
def test_undoing_restores_the_weights_bit_by_bit() -> None:
    model = Model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for undo in reversed(use_half_precision_(model, torch.float16)):
        undo()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    call(model)
    assert model.backbone.seen[0] == torch.float32


@torch.no_grad()
def test_deformable_convolutions_keep_their_positions_exact() -> None:
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(2, 2, 1))
    model.backbone.deform = DeformConv2d(2, 2, 3, padding=1)
    use_half_precision_(model, torch.bfloat16)
    assert model.backbone[0].weight.dtype == torch.bfloat16
    assert model.backbone.deform.weight.dtype == torch.float32
    x, offset = torch.ones(1, 2, 8, 8).bfloat16(), torch.zeros(1, 18, 8, 8).bfloat16()
    assert model.backbone.deform(x, offset).dtype == torch.bfloat16


def test_the_speed_is_a_ratio() -> None:
    assert speed_of_bfloat16(channels=8, side=8, rounds=1) > 0
