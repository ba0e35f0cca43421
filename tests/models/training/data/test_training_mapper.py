"""From a painted picture to a model's input: boxes, masks and keypoints stay on what is painted."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch
from painted_picture import (
    BOX,
    HEIGHT,
    LEFT,
    WIDTH,
    MaskKind,
    drawn_mask,
    overlap,
    paint,
    painted_config,
    painted_dataset,
    painted_object,
    painted_pixels,
)
from PIL import Image
from torchvision.transforms import v2

from models import Boxes, RotatedBoxes
from models.errors import ConfigError
from models.structures import BitMasks, PolygonMasks
from models.training.data.augmentation import build_augmentations
from models.training.data.dataset import TrainingDataset, TrainingImage
from models.training.data.errors import DataError
from models.training.data.geometric_transforms import FixedSizeCrop, RandomCrop, ResizeShortestEdge
from models.training.data.mapper import TrainingMapper


def mapped(dataset: TrainingDataset, *steps: Any, seed: int = 0, **changes: Any) -> dict[str, Any]:
    mapper = TrainingMapper(
        painted_config(**changes),
        dataset,
        augmentations=v2.Compose([v2.Identity(), *steps]),
    )
    return mapper(dataset.images[0], seed)


def colour_at(image: torch.Tensor, keypoint: torch.Tensor) -> int:
    """Which channel is brightest under a keypoint."""
    x, y = int(keypoint[0]), int(keypoint[1])
    return int(image[:, y, x].argmax())


GREEN, BLUE = 1, 2

GEOMETRY = [
    pytest.param((), id="nothing"),
    pytest.param((v2.RandomHorizontalFlip(1.0),), id="horizontal flip"),
    pytest.param((v2.RandomVerticalFlip(1.0),), id="vertical flip"),
    pytest.param((v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(1.0)), id="both flips"),
    pytest.param((ResizeShortestEdge((301,), 1000),), id="larger"),
    pytest.param((ResizeShortestEdge((67,), 1000),), id="smaller"),
    pytest.param((RandomCrop("absolute", (100, 150)),), id="crop around it"),
    pytest.param((FixedSizeCrop((200, 260)),), id="filled up"),
    pytest.param((v2.ColorJitter(0.1, 0.1, 0.1),), id="colours"),
    pytest.param(
        (ResizeShortestEdge((90,), 1000), FixedSizeCrop((150, 130)), v2.RandomHorizontalFlip(1.0)),
        id="all",
    ),
]


@pytest.mark.parametrize("kind", ["polygon", "rle"])
@pytest.mark.parametrize("steps", GEOMETRY)
def test_box_mask_and_keypoints_stay_on_what_is_painted(
    tmp_path: Path, steps: tuple[Any, ...], kind: MaskKind
) -> None:
    result = mapped(painted_dataset(tmp_path, painted_object(kind)), *steps)
    image, instances = result["image"], result["instances"]
    truth = painted_pixels(image)
    assert instances.image_size == tuple(image.shape[1:])
    assert overlap(drawn_mask(instances), truth) > 0.95
    extent = BitMasks(truth[None]).get_bounding_boxes().tensor
    assert torch.allclose(instances.gt_boxes.tensor, extent, atol=1.01)

    mirrors = sum(
        isinstance(step, v2.RandomHorizontalFlip | v2.RandomVerticalFlip) for step in steps
    )
    keypoints = instances.gt_keypoints.tensor[0]
    assert keypoints[:, 2].tolist() == [2, 2]
    # In a mirror image what was painted as the left one is the right one.
    expected = [BLUE, GREEN] if mirrors % 2 else [GREEN, BLUE]
    assert [colour_at(image, keypoint) for keypoint in keypoints] == expected


@pytest.mark.parametrize("kind", ["polygon", "rle"])
def test_an_unchanged_picture_keeps_exact_boxes_and_keypoints(
    tmp_path: Path, kind: MaskKind
) -> None:
    instances = mapped(painted_dataset(tmp_path, painted_object(kind)))["instances"]
    assert instances.gt_boxes.tensor.tolist() == [list(BOX)]
    assert instances.gt_keypoints.tensor[0, 0].tolist() == [LEFT[0] + 0.5, LEFT[1] + 0.5, 2]
    assert instances.gt_classes.tolist() == [0]


def test_coordinates_are_continuous_in_a_mirror(tmp_path: Path) -> None:
    instances = mapped(painted_dataset(tmp_path), v2.RandomHorizontalFlip(1.0))["instances"]
    x1, y1, x2, y2 = BOX
    assert instances.gt_boxes.tensor.tolist() == [[WIDTH - x2, y1, WIDTH - x1, y2]]
    # The first is now the one that was the second.
    assert instances.gt_keypoints.tensor[0, 1, 0] == WIDTH - (LEFT[0] + 0.5)


@pytest.mark.parametrize("kind", ["polygon", "rle"])
def test_a_crop_draws_boxes_anew_around_what_is_left_of_the_mask(
    tmp_path: Path, kind: MaskKind
) -> None:
    dataset = painted_dataset(tmp_path, painted_object(kind))
    instances = mapped(dataset, v2.CenterCrop((HEIGHT, 40)))["instances"]
    # Columns 60 to 100 of the picture: the arm to column 64, the foot from row 72.
    assert instances.gt_boxes.tensor.tolist() == [[0, 24, 40, 96]]
    instances = mapped(dataset, v2.CenterCrop((HEIGHT, 20)))["instances"]
    # Columns 70 to 90: the foot alone.
    assert instances.gt_boxes.tensor.tolist() == [[0, 72, 20, 96]]


def test_a_crop_only_clips_boxes_where_there_are_no_masks(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    instances = mapped(dataset, v2.CenterCrop((HEIGHT, 20)), MODEL__MASK_ON=False)["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[0, 24, 20, 96]]
    assert not instances.has("gt_masks")


@pytest.mark.parametrize("kind", ["polygon", "rle"])
def test_an_object_out_of_the_crop_is_dropped(tmp_path: Path, kind: MaskKind) -> None:
    dataset = painted_dataset(tmp_path, painted_object(kind))
    # Columns 75 to 85 of rows 55 to 65: in the box, but not in the L.
    result = mapped(dataset, v2.CenterCrop((10, 10)))
    assert not painted_pixels(result["image"]).any()
    assert len(result["instances"]) == 0
    assert len(result["instances"].gt_masks) == 0
    assert result["instances"].gt_keypoints.tensor.shape == (0, 2, 3)


def test_a_keypoint_that_left_the_picture_is_no_longer_labelled(tmp_path: Path) -> None:
    instances = mapped(painted_dataset(tmp_path), v2.CenterCrop((HEIGHT, 50)))["instances"]
    # Columns 55 to 105: the left marker's middle is column 52.
    assert instances.gt_keypoints.tensor[0, 0].tolist() == [0, 0, 0]
    assert instances.gt_keypoints.tensor[0, 1].tolist() == [35.5, 84.5, 2]


def test_polygons_stay_polygons_and_are_drawn_where_bit_masks_are_wanted(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    kept = mapped(dataset, INPUT__MASK_FORMAT="polygon")["instances"].gt_masks
    drawn = mapped(dataset, INPUT__MASK_FORMAT="bitmask")["instances"].gt_masks
    assert isinstance(kept, PolygonMasks)
    assert isinstance(drawn, BitMasks)
    assert np.array_equal(drawn.tensor[0].numpy(), paint(tmp_path / "again.png"))


def test_one_run_length_mask_makes_bit_masks_of_all_in_the_picture(tmp_path: Path) -> None:
    small = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    small[100:110, 10:30] = 1
    other = painted_object(
        polygons=None,
        rle=mask_api.encode(small),
        box=(10, 100, 30, 110),
        class_id=1,
        keypoints=None,
    )
    dataset = painted_dataset(tmp_path, painted_object(), other, painted_object("rle"))
    instances = mapped(dataset, v2.RandomHorizontalFlip(1.0))["instances"]
    assert isinstance(instances.gt_masks, BitMasks)
    masks = instances.gt_masks.tensor
    assert overlap(masks[0], masks[2]) > 0.95
    assert np.array_equal(masks[1].numpy(), small[:, ::-1].astype(bool))
    assert instances.gt_classes.tolist() == [0, 1, 0]


def test_bit_masks_are_resized_as_pillow_does_by_the_nearest_pixel(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path, painted_object("rle"))
    shape = paint(tmp_path / "again.png")
    instances = mapped(dataset, ResizeShortestEdge((77,), 1000))["instances"]
    height, width = instances.image_size
    expected = Image.fromarray(shape.view(np.uint8)).resize(
        (width, height), Image.Resampling.NEAREST
    )
    assert np.array_equal(instances.gt_masks.tensor[0].numpy(), np.asarray(expected).astype(bool))


def test_crowds_are_not_learned(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path, painted_object(is_crowd=True), painted_object(class_id=1))
    assert mapped(dataset)["instances"].gt_classes.tolist() == [1]


def test_boxes_are_clipped_and_those_without_area_dropped(tmp_path: Path) -> None:
    boxes = [
        (-5.0, -5.0, 20.0, 20.0),
        (WIDTH - 1.0, HEIGHT - 1.0, float(WIDTH), float(HEIGHT)),
        (0.0, 0.0, 1.0, 1.0),
        (30.0, 30.0, 30.0, 60.0),
        (float(WIDTH), 5.0, WIDTH + 9.0, 20.0),
    ]
    objects = [painted_object(box=box, class_id=number % 2) for number, box in enumerate(boxes)]
    dataset = painted_dataset(tmp_path, *objects)
    instances = mapped(dataset, MODEL__MASK_ON=False)["instances"]
    assert instances.gt_boxes.tensor.tolist() == [
        [0, 0, 20, 20],
        [WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT],
        [0, 0, 1, 1],
    ]
    assert instances.gt_classes.tolist() == [0, 1, 0]


def test_one_pixel_in_the_corner_survives_a_flip_and_a_resize(tmp_path: Path) -> None:
    corner = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    corner[-1, -1] = 1
    pixel = painted_object(
        polygons=None,
        rle=mask_api.encode(corner),
        box=(WIDTH - 1.0, HEIGHT - 1.0, float(WIDTH), float(HEIGHT)),
        keypoints=None,
    )
    steps = (v2.RandomHorizontalFlip(1.0), ResizeShortestEdge((HEIGHT * 2,), 1000))
    instances = mapped(painted_dataset(tmp_path, pixel), *steps)["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[0, 2 * HEIGHT - 2, 2, 2 * HEIGHT]]
    assert instances.gt_masks.tensor[0].nonzero().tolist() == [
        [2 * HEIGHT - 2, 0],
        [2 * HEIGHT - 2, 1],
        [2 * HEIGHT - 1, 0],
        [2 * HEIGHT - 1, 1],
    ]


def test_a_picture_without_objects_has_instances_of_none(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path, painted_object(is_crowd=True))
    instances = mapped(dataset, v2.RandomHorizontalFlip(1.0))["instances"]
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_classes.dtype == torch.int64
    masks = mapped(dataset, INPUT__MASK_FORMAT="bitmask")["instances"].gt_masks
    assert masks.tensor.shape == (0, HEIGHT, WIDTH)


def test_channels_are_in_the_order_of_the_model(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    rgb = mapped(dataset)["image"]
    bgr = mapped(dataset, INPUT__FORMAT="BGR")["image"]
    assert rgb.dtype == torch.uint8
    assert rgb.is_contiguous()
    assert rgb[:, 60, 45].tolist() == [255, 0, 0]
    assert torch.equal(bgr, rgb.flip(0))


def test_the_input_says_which_picture_it_is_of(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    result = mapped(dataset, ResizeShortestEdge((60,), 1000))
    assert (result["height"], result["width"], result["image_id"]) == (HEIGHT, WIDTH, 7)
    assert result["file_name"] == str(tmp_path / "painted.png")


def rotated_boxes(dataset: TrainingDataset, *steps: Any) -> list[list[float]]:
    instances = mapped(
        dataset, *steps, MODEL__PROPOSAL_GENERATOR__NAME="RRPN", MODEL__MASK_ON=False
    )["instances"]
    assert isinstance(instances.gt_boxes, RotatedBoxes)
    found: list[list[float]] = instances.gt_boxes.tensor.tolist()
    return found


def test_rotated_models_get_upright_boxes_with_angle_0(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    assert rotated_boxes(dataset) == [[72, 60, 64, 72, 0]]
    assert rotated_boxes(dataset, v2.RandomHorizontalFlip(1.0)) == [[WIDTH - 72, 60, 64, 72, 0]]


def test_rotated_boxes_turn_with_the_picture(tmp_path: Path) -> None:
    tilted = painted_object(rotated_box=(70.0, 60.0, 40.0, 20.0, 30.0))
    dataset = painted_dataset(tmp_path, tilted)
    assert rotated_boxes(dataset) == [pytest.approx([70, 60, 40, 20, 30], abs=1e-3)]
    mirrored = rotated_boxes(dataset, v2.RandomHorizontalFlip(1.0))
    assert mirrored == [pytest.approx([WIDTH - 70, 60, 40, 20, -30], abs=1e-3)]
    resized = rotated_boxes(dataset, ResizeShortestEdge((HEIGHT // 2,), 1000))
    assert resized == [pytest.approx([35, 30, 20, 10, 30], abs=1e-3)]
    assert rotated_boxes(dataset, v2.CenterCrop((10, 10))) == [
        pytest.approx([70 - 75, 60 - 55, 40, 20, 30], abs=1e-3)
    ]


def test_rotated_boxes_out_of_the_picture_are_dropped(tmp_path: Path) -> None:
    away = painted_object(rotated_box=(10.0, 10.0, 8.0, 4.0, 45.0), box=(5.0, 5.0, 15.0, 15.0))
    assert rotated_boxes(painted_dataset(tmp_path, away), v2.CenterCrop((60, 60))) == []


def test_semantic_maps_follow_the_picture_and_what_is_added_is_ignored(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    shape = paint(tmp_path / "again.png")
    classes = np.where(shape, 3, 255).astype(np.uint8)
    classes[0] = 0
    Image.fromarray(classes).save(tmp_path / "map.png")
    image = TrainingImage(7, tmp_path / "painted.png", HEIGHT, WIDTH, (), tmp_path / "map.png")
    mapper = TrainingMapper(
        painted_config(),
        dataset,
        augmentations=v2.Compose([v2.RandomHorizontalFlip(1.0), FixedSizeCrop((130, 170))]),
    )
    found = mapper(image, 0)["sem_seg"]
    expected = np.full((130, 170), 255)
    expected[:HEIGHT, :WIDTH] = classes[:, ::-1]
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), expected)


def test_a_seed_decides_all_that_is_random(tmp_path: Path) -> None:
    cfg = painted_config(
        INPUT__MIN_SIZE_TRAIN=(60, 90, 120),
        INPUT__RANDOM_FLIP="horizontal",
        INPUT__CROP={"ENABLED": True},
    )
    dataset = painted_dataset(tmp_path)
    mapper = TrainingMapper(cfg, dataset, augmentations=build_augmentations(cfg, colour_jitter=0.5))
    first, again = (mapper(dataset.images[0], 5) for _ in range(2))
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["instances"].gt_boxes.tensor, again["instances"].gt_boxes.tensor)
    different = {tuple(mapper(dataset.images[0], seed)["image"].shape) for seed in range(20)}
    assert len(different) > 5


def test_the_global_generator_is_left_as_it_was(tmp_path: Path) -> None:
    cfg = painted_config(INPUT__RANDOM_FLIP="horizontal")
    dataset = painted_dataset(tmp_path)
    mapper = TrainingMapper(cfg, dataset)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    mapper(dataset.images[0], 8)
    assert torch.equal(torch.rand(2), expected)


def test_the_cache_gives_the_same_without_the_file(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    cfg = painted_config(INPUT__FORMAT="BGR")
    mapper = TrainingMapper(cfg, dataset, cache_bytes=HEIGHT * WIDTH * 3)
    before = mapper(dataset.images[0], 1)
    (tmp_path / "painted.png").unlink()
    before["image"].zero_()
    after = mapper(dataset.images[0], 1)
    assert painted_pixels(after["image"]).any()


def test_the_cache_keeps_to_its_limit_and_is_not_sent_to_workers(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    too_small = TrainingMapper(painted_config(), dataset, cache_bytes=HEIGHT * WIDTH * 3 - 1)
    filled = TrainingMapper(painted_config(), dataset, cache_bytes=HEIGHT * WIDTH * 3)
    too_small(dataset.images[0], 1)
    empty_size = len(pickle.dumps(filled))
    filled(dataset.images[0], 1)
    assert len(pickle.dumps(filled)) == empty_size
    (tmp_path / "painted.png").unlink()
    with pytest.raises(DataError, match=r"painted\.png"):
        too_small(dataset.images[0], 1)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    (tmp_path / "painted.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"painted\.png cannot be read as a picture"):
        mapped(dataset)


def test_a_picture_of_another_size_than_the_record_is_named(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    Image.new("RGB", (30, 20)).save(tmp_path / "painted.png")
    with pytest.raises(DataError, match=r"painted\.png is 30x20 pixels, but should be 160x120"):
        mapped(dataset)


def test_masks_that_are_missing_are_refused_before_the_first_step(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path, painted_object(), painted_object(polygons=None))
    with pytest.raises(DataError, match=r"1 objects .* have no mask, the first in painted\.png"):
        TrainingMapper(painted_config(), dataset)
    TrainingMapper(painted_config(MODEL__MASK_ON=False), dataset)


def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path: Path) -> None:
    wrong = mask_api.encode(np.zeros((WIDTH, HEIGHT), dtype=np.uint8, order="F"))
    dataset = painted_dataset(tmp_path, painted_object(polygons=None, rle=wrong))
    with pytest.raises(DataError, match=r"painted\.png is of another size"):
        TrainingMapper(painted_config(), dataset)


def test_another_number_of_keypoints_than_the_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 2 keypoints, but .*NUM_KEYPOINTS is 17"):
        TrainingMapper(
            painted_config(MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=17), painted_dataset(tmp_path)
        )


def without_flip_map(dataset: TrainingDataset) -> TrainingDataset:
    return TrainingDataset(
        dataset.name,
        dataset.class_names,
        dataset.images,
        dataset.keypoint_names,
        has_masks=True,
        has_keypoints=True,
        knows_flip_map=False,
    )


def test_keypoints_are_not_mirrored_without_a_flip_map(tmp_path: Path) -> None:
    dataset = without_flip_map(painted_dataset(tmp_path))
    with pytest.raises(DataError, match=r"which keypoints then change places"):
        TrainingMapper(painted_config(INPUT__RANDOM_FLIP="horizontal"), dataset)
    with pytest.raises(DataError, match="flip_map"):
        mapped(dataset, v2.RandomHorizontalFlip(1.0))
    assert len(mapped(dataset)["instances"]) == 1


@pytest.mark.parametrize(
    ("key", "value"), [("INPUT__FORMAT", "YUV-BT.601"), ("INPUT__MASK_FORMAT", "rle")]
)
def test_unknown_formats_are_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key.replace("__", r"\.")):
        TrainingMapper(painted_config(**{key: value}), painted_dataset(tmp_path))


def test_boxes_alone_are_boxes(tmp_path: Path) -> None:
    dataset = painted_dataset(tmp_path)
    instances = mapped(dataset, MODEL__MASK_ON=False, MODEL__KEYPOINT_ON=False)["instances"]
    assert sorted(instances.get_fields()) == ["gt_boxes", "gt_classes"]
    assert isinstance(instances.gt_boxes, Boxes)
