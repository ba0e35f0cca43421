"""Instances: fields of one length that are sliced, joined and copied together."""

import copy
import pickle

import pytest
import torch

from models.structures import Boxes, Instances


def three() -> Instances:
    return Instances(
        (10, 20),
        pred_boxes=Boxes(torch.arange(12.0).reshape(3, 4)),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        names=["a", "b", "c"],
    )


def test_fields_are_attributes() -> None:
    instances = three()
    instances.pred_classes = torch.tensor([1, 2, 3])
    assert instances.pred_classes.tolist() == [1, 2, 3]
    assert instances.get("names") == ["a", "b", "c"]
    assert instances.has("scores")
    assert list(instances.get_fields()) == ["pred_boxes", "scores", "names", "pred_classes"]


def test_image_size_is_height_and_width() -> None:
    assert three().image_size == (10, 20)


def test_a_field_of_another_length_is_refused() -> None:
    instances = three()
    with pytest.raises(ValueError, match="'pred_classes' has length 2; this object has 3"):
        instances.pred_classes = torch.tensor([1, 2])
    assert not instances.has("pred_classes")


def test_a_field_that_is_not_set_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no field 'pred_masks'"):
        _ = three().pred_masks


def test_a_removed_field_is_gone() -> None:
    instances = three()
    instances.remove("scores")
    assert not instances.has("scores")


def test_without_fields_there_is_no_length() -> None:
    with pytest.raises(NotImplementedError, match="no length"):
        len(Instances((1, 1)))


def test_without_fields_it_prints() -> None:
    assert repr(Instances((3, 4))) == "Instances(0 in 3x4: no fields)"


@pytest.mark.parametrize(
    ("item", "rows"),
    [
        (0, [0]),
        (2, [2]),
        (-1, [2]),
        (-3, [0]),
        (slice(1, None), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        (torch.tensor([True, False, True]), [0, 2]),
        (torch.tensor([False, False, False]), []),
        (torch.tensor([2, 0, 2]), [2, 0, 2]),
        (torch.tensor([-1]), [2]),
    ],
)
def test_selection_applies_to_every_field(item: int | slice | torch.Tensor, rows: list) -> None:
    instances = three()
    selected = instances[item]
    assert selected.image_size == (10, 20)
    assert torch.equal(selected.pred_boxes.tensor, instances.pred_boxes.tensor[rows])
    assert torch.equal(selected.scores, instances.scores[rows])
    assert selected.names == [instances.names[i] for i in rows]


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_raises(index: int) -> None:
    with pytest.raises(IndexError, match=f"Instance {index} of 3"):
        three()[index]


def test_iteration_ends() -> None:
    assert [len(one) for one in three()] == [1, 1, 1]


def test_cat_joins_tensors_lists_and_structures() -> None:
    joined = Instances.cat([three(), three()[:1]])
    assert len(joined) == 4
    assert joined.names == ["a", "b", "c", "a"]
    assert joined.pred_boxes.tensor[3].tolist() == [0, 1, 2, 3]
    assert joined.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.9])


def test_cat_of_images_of_different_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="one image size"):
        Instances.cat([three(), Instances((10, 21), **three().get_fields())])


def test_cat_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Instances.cat([])


def test_to_moves_tensors_and_structures_and_keeps_lists() -> None:
    instances = three()
    moved = instances.to("meta")
    assert moved.scores.device.type == "meta"
    assert moved.pred_boxes.device.type == "meta"
    assert moved.names == ["a", "b", "c"]
    assert instances.scores.device.type == "cpu"


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_a_copy_is_equal_and_independent(copied) -> None:
    instances = three()
    other = copied(instances)
    other.pred_boxes.scale(2.0, 2.0)
    assert other.image_size == (10, 20)
    assert torch.equal(other.scores, instances.scores)
    assert other.names == instances.names
    assert instances.pred_boxes.tensor[0].tolist() == [0, 1, 2, 3]
