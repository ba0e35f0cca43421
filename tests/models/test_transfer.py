"""Packing tensors for one copy, and finding them in what a model answers."""

import pytest
import torch
from torch import Tensor

from models import Boxes, Instances
from models.structures import RotatedBoxes
from models.transfer import map_tensors, pack, tensors_of, to_device, to_host, unpack

TYPES = [torch.bool, torch.int32, torch.float32, torch.uint8, torch.int64, torch.float16]


def tensors(seed: int = 0) -> list[Tensor]:
    """Of all widths, in no order, some empty, some not contiguous."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3,), (0,), (2, 5), (1, 1, 7), (), (3, 0, 2)] * 2
    made = [
        (torch.rand(shape, generator=generator) * 9).to(TYPES[(i * 5 + seed) % len(TYPES)])
        for i, shape in enumerate(shapes)
    ]
    return [*made, torch.arange(12).view(3, 4).T, torch.rand(4, 6, generator=generator)[:, ::2]]


@pytest.mark.parametrize("seed", range(6))
def test_unpacked_tensors_are_those_that_were_packed(seed: int) -> None:
    originals = tensors(seed)
    packed = pack(originals)
    assert packed.numel() == sum(t.numel() * t.element_size() for t in originals)
    for original, copy in zip(originals, unpack(packed, originals), strict=True):
        assert copy.dtype == original.dtype
        assert torch.equal(copy, original)


def test_unpacked_tensors_share_the_memory_of_the_packed() -> None:
    packed = pack([torch.zeros(2), torch.zeros(3, dtype=torch.int64)])
    first, second = unpack(packed, [torch.zeros(2), torch.zeros(3, dtype=torch.int64)])
    packed.fill_(255)
    assert second.tolist() == [-1, -1, -1]
    assert first.isnan().all()


def answer() -> list[dict[str, object]]:
    instances = Instances(
        (4, 5),
        pred_boxes=Boxes(torch.tensor([[0.0, 1, 2, 3]])),
        scores=torch.tensor([0.5]),
        names=["a"],
    )
    rotated = Instances((4, 5), proposal_boxes=RotatedBoxes(torch.tensor([[1.0, 2, 3, 4, 5]])))
    segments = (torch.tensor([[1, 2]]), [{"id": 1, "area": 2.0}])
    return [{"instances": instances, "panoptic_seg": segments}, {"proposals": rotated}]


def test_tensors_are_found_in_every_part_of_an_answer() -> None:
    assert [tuple(t.shape) for t in tensors_of(answer())] == [(1, 4), (1,), (1, 2), (1, 5)]


def test_a_mapped_answer_has_the_structure_of_the_old_one_which_stays() -> None:
    before = answer()
    first, second = map_tensors(before, lambda t: t + 1)
    found = first["instances"]
    assert isinstance(found, Instances)
    assert found.image_size == (4, 5)
    assert isinstance(found.pred_boxes, Boxes)
    assert found.pred_boxes.tensor.tolist() == [[1, 2, 3, 4]]
    assert found.get("names") == ["a"]
    assert first["panoptic_seg"] == (first["panoptic_seg"][0], [{"id": 1, "area": 2.0}])
    assert first["panoptic_seg"][0].tolist() == [[2, 3]]
    assert isinstance(second["proposals"].proposal_boxes, RotatedBoxes)
    assert before[0]["instances"].scores.tolist() == [0.5]


def test_on_a_cpu_nothing_is_copied() -> None:
    value = answer()
    assert to_host(value) is value
    moved = to_device(value, torch.device("cpu"))
    assert tensors_of(moved)[0].data_ptr() == tensors_of(value)[0].data_ptr()
