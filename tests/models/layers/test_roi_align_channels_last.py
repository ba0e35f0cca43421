"""RoIAlign of channels-last maps: what torchvision's operator gives, box by box."""

import pytest
import torch
import torchvision.ops

from models.layers import ROIAlign
from models.layers import roi_align_channels_last as fast


def maps(images: int = 2, channels: int = 5, height: int = 17, width: int = 23) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, channels, height, width, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def rois(number: int = 60) -> torch.Tensor:
    """Boxes of all sizes, also beyond the image, of no width, and of one pixel."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(number, 2, generator=generator) * 130 - 20
    sizes = torch.rand(number, 2, generator=generator) ** 3 * 150
    boxes = torch.cat((corners, corners + sizes), dim=1)
    boxes[0] = torch.tensor([10.0, 10.0, 10.0, 30.0])
    boxes[1] = torch.tensor([10.0, 10.0, 11.0, 11.0])
    boxes[2] = torch.tensor([-50.0, -50.0, 500.0, 500.0])
    boxes[3] = torch.tensor([400.0, 400.0, 500.0, 500.0])
    index = torch.randint(0, 2, (number, 1), generator=generator)
    return torch.cat((index.float(), boxes), dim=1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2])
@pytest.mark.parametrize("output_size", [(7, 7), (14, 14), (2, 5)])
def test_it_equals_torchvision(
    output_size: tuple[int, int], sampling_ratio: int, aligned: bool
) -> None:
    arguments = (output_size, 0.25, sampling_ratio, aligned)
    expected = torchvision.ops.roi_align(maps().contiguous(), rois(), *arguments)
    pooled = fast.roi_align_channels_last(maps(), rois(), *arguments)
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)
    assert pooled.is_contiguous(memory_format=torch.channels_last)


def test_it_works_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fast.roi_align_channels_last(maps(), rois(), (7, 7), 0.25, 0, True)
    monkeypatch.setattr(fast, "MAX_ENTRIES", 1000)
    assert torch.equal(fast.roi_align_channels_last(maps(), rois(), (7, 7), 0.25, 0, True), whole)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_module_answers_alike_in_both_layouts(layout: torch.memory_format) -> None:
    pooler = ROIAlign((7, 7), 0.25, 0)
    expected = torchvision.ops.roi_align(maps().contiguous(), rois(), (7, 7), 0.25, 0, True)
    pooled = pooler(maps().contiguous(memory_format=layout), rois())
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_features_are_pooled_in_float32() -> None:
    features = maps().bfloat16()
    pooled = ROIAlign((7, 7), 0.25, 0)(features, rois())
    expected = ROIAlign((7, 7), 0.25, 0)(features.float(), rois())
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled, expected.bfloat16())


def test_gradients_flow_in_both_layouts() -> None:
    features = maps().requires_grad_()
    ROIAlign((7, 7), 0.25, 0)(features, rois()).sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_boxes_that_are_no_numbers_do_not_break_the_others() -> None:
    boxes = rois()
    boxes[7, 1:] = torch.nan
    pooled = fast.roi_align_channels_last(maps(), boxes, (7, 7), 0.25, 0, True)
    expected = fast.roi_align_channels_last(maps(), rois(), (7, 7), 0.25, 0, True)
    others = torch.arange(len(boxes)) != 7
    assert torch.equal(pooled[others], expected[others])


def test_no_boxes_give_no_regions() -> None:
    assert fast.roi_align_channels_last(maps(), torch.zeros(0, 5), (7, 7), 0.25, 0, True).shape == (
        0,
        5,
        7,
        7,
    )
