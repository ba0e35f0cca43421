"""SemanticSegmentor: logits for every pixel of the answer."""

import torch
from tiny_models import tiny_image, tiny_model

from models.postprocessing import sem_seg_postprocess


def test_each_image_has_logits_at_the_size_that_is_asked_for() -> None:
    model = tiny_model(META_ARCHITECTURE="SemanticSegmentor")
    first, second = model(
        [{"image": tiny_image()}, {"image": tiny_image(64, 72), "height": 32, "width": 36}]
    )
    assert list(first) == list(second) == ["sem_seg"]
    assert first["sem_seg"].shape == (5, 96, 128)
    assert second["sem_seg"].shape == (5, 32, 36)
    assert len(first["sem_seg"].argmax(dim=0).unique()) > 1


def test_padding_is_cut_off_before_the_resize() -> None:
    model = tiny_model(META_ARCHITECTURE="SemanticSegmentor")
    image = tiny_image(64, 72)
    images = model.preprocess_image([{"image": image}])
    assert images.tensor.shape[-2:] == (64, 128)
    logits, _ = model.sem_seg_head(model.backbone(images.tensor))
    assert logits.shape == (1, 5, 64, 128)
    (answer,) = model([{"image": image, "height": 100, "width": 50}])
    expected = sem_seg_postprocess(logits[0], (64, 72), 100, 50)
    torch.testing.assert_close(answer["sem_seg"], expected)


def test_predict_equals_the_call() -> None:
    model = tiny_model(META_ARCHITECTURE="SemanticSegmentor")
    inputs = [{"image": tiny_image()}]
    assert torch.equal(model.predict(inputs)[0]["sem_seg"], model(inputs)[0]["sem_seg"])
