"""torchvision's dense detectors: another NMS threshold and cap for single images of a batch."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from models.architectures.torchvision_overrides import override_in_dense_detector_
from models.wanted import EVERYTHING, Wanted


class Backbone(nn.Module):
    """One convolution; detectors take one feature map from it."""

    out_channels = 32  # as many as FCOS has groups

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, stride=8, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images)
        return features


def detector(kind: str, **settings: Any) -> Any:
    """A small seeded one that finds many overlapping boxes."""
    torch.manual_seed(0)
    settings |= {"min_size": 64, "max_size": 64, "score_thresh": 0.0}
    if kind == "fcos":
        anchors = AnchorGenerator(sizes=((16,),), aspect_ratios=((1.0,),))
        model: Any = FCOS(Backbone(), 3, anchor_generator=anchors, **settings)
        nn.init.constant_(model.head.regression_head.bbox_reg.bias, 1.0)
        return model.eval()
    anchors = AnchorGenerator(sizes=((16, 32),), aspect_ratios=((0.5, 1.0),))
    return RetinaNet(Backbone(), 3, anchor_generator=anchors, **settings).eval()


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_each_image_is_answered_as_by_a_detector_with_its_settings(kind: str) -> None:
    images = list(torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    wanted = [
        Wanted(nms_threshold=0.05),
        EVERYTHING,
        Wanted(nms_threshold=0.95, detections_per_image=40),
    ]
    ours = detector(kind, nms_thresh=0.5, detections_per_img=20)
    of_batch: list[Wanted] = []
    override_in_dense_detector_(ours, lambda: of_batch)
    configured = [
        detector(kind, nms_thresh=one.nms_threshold_or(0.5), detections_per_img=one.cap_or(20))
        for one in wanted
    ]
    with torch.inference_mode():
        expected = [model(images)[i] for i, model in enumerate(configured)]
        plain = ours(images)
        of_batch += wanted
        found = ours(images)
    for one, other in zip(found, expected, strict=True):
        assert len(one["scores"]) > 0
        assert {name: value.tolist() for name, value in one.items()} == {
            name: value.tolist() for name, value in other.items()
        }
    assert [len(one["scores"]) for one in plain] != [len(one["scores"]) for one in found]
    assert (ours.nms_thresh, ours.detections_per_img) == (0.5, 20)
