"""Annotated pictures as files."""

import io

import numpy as np
import pytest
import torch
from fake_detector import FakeDetector
from PIL import Image

from models.structures import Boxes, Instances
from service.encoding.formats.pictures import encode_picture
from service.encoding.instances import Selection
from service.encoding.palette import class_color
from service.errors import Unprocessable
from service.inference.detector import Prediction
from service.schemas.options import FormatName, PredictOptions

MODEL = FakeDetector().description
SELECTION = Selection.resolve(PredictOptions(), MODEL)


def prediction() -> Prediction:
    instances = Instances((120, 160))
    instances.pred_boxes = Boxes(torch.tensor([[20.0, 30.0, 140.0, 110.0]]))
    instances.scores = torch.tensor([0.9])
    instances.pred_classes = torch.tensor([1])
    instances.pred_masks = torch.ones(1, 1, 28, 28)
    return Prediction(instances=instances)


@pytest.mark.parametrize(("form", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
@pytest.mark.parametrize("ground", [0, 128, 255])
def test_the_file_is_the_picture_with_boxes_in_the_colour_of_the_class(
    form: FormatName, kind: str, ground: int
) -> None:
    pixels = np.full((120, 160, 3), ground, dtype=np.uint8)
    file = encode_picture(pixels, prediction(), SELECTION, MODEL, form)
    picture = Image.open(io.BytesIO(file))
    assert (picture.format, picture.size, picture.mode) == (kind, (160, 120), "RGB")
    drawn = np.asarray(picture).astype(int)
    tolerance = 0 if form == "png" else 60
    assert np.abs(drawn[70, 20] - class_color(1)).max() <= tolerance
    assert np.abs(drawn[5, 5] - ground).max() <= tolerance
    assert (pixels == ground).all()


@pytest.mark.parametrize(("form", "longest"), [("webp", 16_383), ("jpeg", 65_500)])
def test_a_picture_too_long_for_its_kind_of_file_is_refused(form: FormatName, longest: int) -> None:
    pixels = np.zeros((1, longest + 1, 3), dtype=np.uint8)
    with pytest.raises(Unprocessable, match="use format=png") as caught:
        encode_picture(pixels, Prediction(), SELECTION, MODEL, form)
    assert caught.value.code == "picture_too_long"
