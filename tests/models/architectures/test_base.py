"""What a model does to a picture that comes unprepared."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_image, tiny_model

from models import GeneralizedRCNN
from models.architectures.base import DetectionModel
from models.transforms import resize_image_fast


@pytest.fixture(scope="module")
def model() -> GeneralizedRCNN:
    built: GeneralizedRCNN = tiny_model()
    return built


def test_a_picture_is_resized_as_on_the_host(model: GeneralizedRCNN) -> None:
    picture = tiny_image(90, 120).permute(1, 2, 0).contiguous()  # in the memory order of pictures
    resized = resize_image_fast(picture.numpy(), 64, 86)
    expected = model.preprocess_image([{"image": torch.from_numpy(resized).permute(2, 0, 1)}])
    images = model.preprocess_image([{"image": picture.permute(2, 0, 1), "resize_to": (64, 86)}])
    assert images.image_sizes == [(64, 86)]
    assert torch.equal(images.tensor, expected.tensor)


def test_channels_are_brought_into_the_order_of_the_model(model: GeneralizedRCNN) -> None:
    assert model.input_format == "BGR"
    picture = tiny_image()
    expected = model.preprocess_image([{"image": picture}]).tensor
    as_bgr = model.preprocess_image([{"image": picture, "channel_order": "BGR"}]).tensor
    as_rgb = model.preprocess_image([{"image": picture.flip(0), "channel_order": "RGB"}]).tensor
    assert torch.equal(as_bgr, expected)
    assert torch.equal(as_rgb, expected)


def test_prepared_and_unprepared_pictures_share_a_batch(model: GeneralizedRCNN) -> None:
    picture = tiny_image(64, 128)
    images = model.preprocess_image(
        [{"image": picture}, {"image": tiny_image(128, 256), "resize_to": (64, 128)}]
    )
    assert images.tensor.shape == (2, 3, 64, 128)
    assert torch.equal(images.tensor[:1], model.preprocess_image([{"image": picture}]).tensor)


def test_the_picture_of_the_caller_stays(model: GeneralizedRCNN) -> None:
    picture = tiny_image()
    before = np.array(picture)
    model.preprocess_image([{"image": picture, "resize_to": (64, 86), "channel_order": "RGB"}])
    assert np.array_equal(picture, before)


class Untrained(DetectionModel):
    """A model of somebody's own, with nothing of training in it."""


def test_a_model_without_losses_says_that_it_is_not_trained(model: GeneralizedRCNN) -> None:
    untrained = Untrained(backbone=model.backbone, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3)
    with pytest.raises(NotImplementedError, match=r"Untrained is not trained.*model\.eval\(\)"):
        untrained.train()([{"image": tiny_image()}])


def test_most_models_have_no_state_of_training(model: GeneralizedRCNN) -> None:
    assert model.training_state() == {}
    model.load_training_state({})
    with pytest.raises(ValueError, match=r"called loss_normalizer: .* another architecture"):
        model.load_training_state({"loss_normalizer": 100.0})
