"""An image's answer does not depend on who shares its batch, when padded sizes are equal."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models import ImageList, Instances, Predictor


@pytest.fixture(scope="module")
def image(shapes_predictor: Predictor, shapes_picture: np.ndarray) -> Tensor:
    return shapes_predictor.preprocess(shapes_picture)


@pytest.fixture(scope="module")
def others(shapes_predictor: Predictor, image: Tensor) -> list[Tensor]:
    """Eight images that are padded to the same size: noise, plain colours, and cuts of the image."""
    generator = torch.Generator().manual_seed(0)
    height, width = shapes_predictor.preprocess.padded_size(image)
    others = [
        torch.randint(0, 256, (3, height, width - i), generator=generator).to(torch.uint8)
        for i in range(3)
    ]
    others += [torch.full((3, height - i, width), 120 * i, dtype=torch.uint8) for i in range(3)]
    others += [image.flip(2), image[:, :, :-5]]
    return others


def run(predictor: Predictor, images: list[Tensor]) -> list[Instances]:
    with torch.inference_mode():
        return [answer["instances"] for answer in predictor.model([{"image": i} for i in images])]


def test_the_others_have_the_same_padded_size(image: Tensor, others: list[Tensor]) -> None:
    sizes = {ImageList.padded_size([tuple(x.shape[1:])], 32) for x in [image, *others]}
    assert len(others) == 8
    assert len(sizes) == 1


@pytest.mark.parametrize("position", [0, 4, 8])
def test_a_batch_of_nine_gives_the_answer_of_one(
    shapes_predictor: Predictor, image: Tensor, others: list[Tensor], position: int
) -> None:
    (alone,) = run(shapes_predictor, [image])
    batch = [*others[:position], image, *others[position:]]
    together = run(shapes_predictor, batch)[position]
    assert len(alone) > 0
    assert together.pred_classes.tolist() == alone.pred_classes.tolist()
    torch.testing.assert_close(together.scores, alone.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        together.pred_boxes.tensor, alone.pred_boxes.tensor, rtol=0, atol=0.01
    )
    differing = (together.pred_masks != alone.pred_masks).flatten(1).sum(dim=1)
    assert differing.max() <= 2  # pixels on the threshold
