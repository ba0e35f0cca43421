"""RPN and its head: key names, layout of the predictions, errors in the config."""

import pytest
import torch
from torch import nn

from models import RPN_HEAD_REGISTRY, ImageList, build_proposal_generator, build_rpn_head
from models.config import Config, default_config
from models.errors import ConfigError
from models.layers import ShapeSpec
from models.proposals import RPN, StandardRPNHead

SHAPES = {"p2": ShapeSpec(channels=8, stride=4), "p3": ShapeSpec(channels=8, stride=8)}


@pytest.fixture
def cfg() -> Config:
    cfg = default_config().override("MODEL.RPN.IN_FEATURES", ["p2", "p3"])
    return cfg.override("MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32]])


def test_one_convolution_is_named_conv() -> None:
    head = StandardRPNHead(in_channels=8, num_anchors=3)
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert shapes == {
        "conv.weight": (8, 8, 3, 3),
        "conv.bias": (8,),
        "objectness_logits.weight": (3, 8, 1, 1),
        "objectness_logits.bias": (3,),
        "anchor_deltas.weight": (12, 8, 1, 1),
        "anchor_deltas.bias": (12,),
    }


def test_several_convolutions_are_numbered() -> None:
    head = StandardRPNHead(in_channels=8, num_anchors=3, conv_dims=[-1, 6])
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert shapes["conv.conv0.weight"] == (8, 8, 3, 3)
    assert shapes["conv.conv1.weight"] == (6, 8, 3, 3)
    assert shapes["objectness_logits.weight"] == (3, 6, 1, 1)


def test_the_head_is_shared_by_all_levels() -> None:
    head = StandardRPNHead(in_channels=8, num_anchors=3, box_dim=5)
    logits, deltas = head([torch.zeros(2, 8, 4, 6), torch.zeros(2, 8, 2, 3)])
    assert [tuple(level.shape) for level in logits] == [(2, 3, 4, 6), (2, 3, 2, 3)]
    assert [tuple(level.shape) for level in deltas] == [(2, 15, 4, 6), (2, 15, 2, 3)]


@pytest.mark.parametrize("dim", [0, -2])
def test_a_convolution_without_channels_is_refused(dim: int) -> None:
    with pytest.raises(ConfigError, match=f"CONV_DIMS holds {dim}"):
        StandardRPNHead(in_channels=8, num_anchors=3, conv_dims=[dim])


class OneHotHead(nn.Module):
    """Objectness 5 and a shift by a tenth of the anchor's width at one place, else -5."""

    def __init__(self, image: int, anchor: int, y: int, x: int) -> None:
        super().__init__()
        self.place = (image, anchor, y, x)

    def forward(self, features):
        image, anchor, y, x = self.place
        logits = [torch.full((len(f), 3, *f.shape[-2:]), -5.0) for f in features]
        deltas = [torch.zeros(len(f), 12, *f.shape[-2:]) for f in features]
        logits[0][image, anchor, y, x] = 5
        deltas[0][image, 4 * anchor, y, x] = 0.1
        return logits, deltas


def test_predictions_belong_to_the_anchor_of_their_place(cfg: Config) -> None:
    rpn = build_proposal_generator(cfg, SHAPES).eval()
    assert isinstance(rpn, RPN)
    rpn.rpn_head = OneHotHead(image=1, anchor=1, y=5, x=7)
    features = {"p2": torch.zeros(2, 8, 16, 24), "p3": torch.zeros(2, 8, 8, 12)}
    images = ImageList(torch.zeros(2, 3, 64, 96), [(64, 96), (64, 96)])
    proposals, losses = rpn(images, features)
    assert losses == {}
    assert proposals[0].objectness_logits[0] == -5
    assert proposals[1].objectness_logits[0] == 5
    # A square of 16 around (7 * 4, 5 * 4), moved by 1.6 to the right.
    box = proposals[1].proposal_boxes.tensor[0]
    torch.testing.assert_close(box, torch.tensor([28 - 8 + 1.6, 12.0, 28 + 8 + 1.6, 28.0]))


def test_the_layout_of_memory_does_not_matter(cfg: Config) -> None:
    torch.manual_seed(0)
    rpn = build_proposal_generator(cfg, SHAPES).eval()
    features = {"p2": torch.randn(2, 8, 16, 24), "p3": torch.randn(2, 8, 8, 12)}
    last = {name: f.contiguous(memory_format=torch.channels_last) for name, f in features.items()}
    images = ImageList(torch.zeros(2, 3, 64, 96), [(64, 96), (64, 96)])
    for first, second in zip(rpn(images, features)[0], rpn(images, last)[0], strict=True):
        torch.testing.assert_close(first.objectness_logits, second.objectness_logits)


def test_proposals_are_clipped_to_the_image_without_its_padding(cfg: Config) -> None:
    torch.manual_seed(0)
    rpn = build_proposal_generator(cfg, SHAPES).eval()
    features = {"p2": torch.randn(1, 8, 16, 24), "p3": torch.randn(1, 8, 8, 12)}
    (proposals,), _ = rpn(ImageList(torch.zeros(1, 3, 64, 96), [(33, 41)]), features)
    assert proposals.image_size == (33, 41)
    assert proposals.proposal_boxes.tensor[:, 2:].amax(dim=0).tolist() == [41, 33]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.RPN.IN_FEATURES", ["p2", "p9"], "names p9, which the backbone does not return"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32, 64]], "equally many anchors"),
        ("MODEL.RPN.HEAD_NAME", "MyHead", "'MyHead', which is not in the RPN_HEAD registry"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "RRPN", "RRPN needs 5"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "MyRPN", "not in the PROPOSAL_GENERATOR registry"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    cfg: Config, key: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_proposal_generator(cfg.override(key, value), SHAPES)


def test_precomputed_proposals_need_no_generator(cfg: Config) -> None:
    name = "MODEL.PROPOSAL_GENERATOR.NAME"
    assert build_proposal_generator(cfg.override(name, "PrecomputedProposals"), SHAPES) is None


def test_levels_of_different_channels_are_refused(cfg: Config) -> None:
    shapes = SHAPES | {"p3": ShapeSpec(channels=9, stride=8)}
    with pytest.raises(ConfigError, match=r"which have \[8, 9\] channels"):
        build_proposal_generator(cfg, shapes)


def test_a_head_can_be_plugged_in(cfg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    class NarrowHead(StandardRPNHead):
        @classmethod
        def from_config(cls, cfg, input_shape):
            return super().from_config(cfg, input_shape) | {"conv_dims": [2]}

    monkeypatch.setitem(RPN_HEAD_REGISTRY._components, "NarrowHead", NarrowHead)
    head = build_rpn_head(cfg.override("MODEL.RPN.HEAD_NAME", "NarrowHead"), [*SHAPES.values()])
    assert head.conv.out_channels == 2
