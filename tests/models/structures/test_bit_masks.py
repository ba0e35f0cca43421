"""BitMasks: one bool per pixel."""

import pytest
import torch
import torchvision.ops

from models.structures import BitMasks
from models.structures import masks as structures_masks


def two_masks() -> BitMasks:
    tensor = torch.zeros(2, 6, 8)
    tensor[0, 1:3, 2:7] = 1
    return BitMasks(tensor)


def test_masks_become_bool() -> None:
    masks = two_masks()
    assert masks.tensor.dtype == torch.bool
    assert masks.image_size == (6, 8)


def test_another_shape_than_r_h_w_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(R, H, W\)"):
        BitMasks(torch.zeros(6, 8))


def test_bounding_boxes_are_tight_and_zero_for_an_empty_mask() -> None:
    assert two_masks().get_bounding_boxes().tensor.tolist() == [[2, 1, 7, 3], [0, 0, 0, 0]]


def test_nonempty_has_at_least_one_pixel() -> None:
    assert two_masks().nonempty().tolist() == [True, False]


@pytest.mark.parametrize(
    ("item", "length"), [(0, 1), (slice(0, 2), 2), (torch.tensor([True, False]), 1)]
)
def test_mask_indexing_gives_masks(item: int | slice | torch.Tensor, length: int) -> None:
    assert len(two_masks()[item]) == length


def test_cat_joins_masks() -> None:
    assert len(BitMasks.cat([two_masks(), two_masks()[0]])) == 3


def test_no_masks_have_no_boxes() -> None:
    masks = BitMasks(torch.zeros(0, 6, 8))
    assert masks.get_bounding_boxes().tensor.shape == (0, 4)
    assert masks.nonempty().shape == (0,)


def test_a_selection_copies_no_pixels() -> None:
    pixels = torch.zeros(2, 6, 8, dtype=torch.bool)
    chosen = BitMasks(pixels)[torch.tensor([1, 0, 1])]
    pixels[1, 3, 4] = True  # what was selected before shows it: it is the same memory
    assert chosen.tensor.sum(dim=(1, 2)).tolist() == [1, 0, 1]


def test_a_selection_of_a_selection_finds_its_masks() -> None:
    repeated = two_masks()[torch.tensor([1, 0, 0])]
    assert repeated.nonempty().tolist() == [False, True, True]
    assert repeated[1:][torch.tensor([True, False])].nonempty().tolist() == [True]
    assert repeated[-1].get_bounding_boxes().tensor.tolist() == [[2, 1, 7, 3]]
    assert [bool(mask.any()) for mask in repeated.to("cpu")] == [False, True, True]
    assert len(BitMasks.cat([repeated, two_masks()])) == 5


@pytest.fixture(params=["kernel", "products"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few small masks are cropped by RoIAlign's kernel, others by products of matrices."""
    cost = 10**9 if request.param == "kernel" else -1
    monkeypatch.setattr(structures_masks, "FRAME_COST", cost)


def left_half() -> BitMasks:
    tensor = torch.zeros(1, 4, 4)
    tensor[0, :, :2] = 1
    return BitMasks(tensor)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0.0, 0.0, 4.0, 4.0], [[True, False], [True, False]]),
        ([1.0, 0.0, 3.0, 4.0], [[True, False], [True, False]]),
        ([0.0, 0.0, 2.0, 2.0], [[True, True], [True, True]]),
        ([2.0, 0.0, 4.0, 4.0], [[False, False], [False, False]]),
    ],
)
def test_a_crop_shows_what_the_box_sees(box: list[float], expected: list[list[bool]]) -> None:
    assert left_half().crop_and_resize(torch.tensor([box]), 2)[0].tolist() == expected


@pytest.mark.usefixtures("way")
def test_a_cell_is_foreground_from_half_of_it_on() -> None:
    masks = left_half()
    assert masks.crop_and_resize(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), 1).item()
    masks.tensor[0, 0, 0] = False
    assert not masks.crop_and_resize(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), 1).item()


@pytest.mark.usefixtures("way")
def test_each_box_crops_its_own_mask() -> None:
    masks = BitMasks(torch.stack((torch.ones(4, 4), torch.zeros(4, 4))))
    whole = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    crops = masks[torch.tensor([1, 0, 1])].crop_and_resize(whole.repeat(3, 1), 3)
    assert crops.flatten(1).all(dim=1).tolist() == [False, True, False]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("frames_at_a_time", [1, 2, 100])
def test_both_ways_and_any_portion_give_the_same(
    frames_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(5, 30, 40, generator=generator) > 0.5
    index = torch.tensor([4, 0, 0, 3, 4])
    corner = torch.rand(5, 2, generator=generator) * 20
    boxes = torch.cat((corner, corner + 15), dim=1)
    monkeypatch.setattr(structures_masks, "MAX_FLOATS", frames_at_a_time * 30 * 40)
    rois = torch.cat((index[:, None].float(), boxes), dim=1)
    expected = torchvision.ops.roi_align(frames[:, None].float(), rois, 7, 1.0, 0, True)[:, 0]
    assert torch.equal(BitMasks(frames)[index].crop_and_resize(boxes, 7), expected >= 0.5)


def test_as_many_boxes_as_masks_are_needed() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 4\) to crop 2 masks"):
        two_masks().crop_and_resize(torch.zeros(3, 4), 28)


@pytest.mark.usefixtures("way")
def test_no_masks_have_no_crops() -> None:
    masks = BitMasks(torch.zeros(0, 6, 8))
    assert masks.crop_and_resize(torch.zeros(0, 4), 28).shape == (0, 28, 28)
