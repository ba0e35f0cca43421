"""SemanticSegmentor: logits for every pixel of the answer."""

import pytest
import torch
import torch.nn.functional as F
from tiny_models import tiny_image, tiny_model
from tiny_truth import tiny_training_input

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


def test_padding_teaches_nothing() -> None:
    model = tiny_model(META_ARCHITECTURE="SemanticSegmentor").train()
    inputs = tiny_training_input([10.0, 10, 50, 40])  # 96 rows, padded to 128
    losses = model([inputs])
    assert list(losses) == ["loss_sem_seg"]
    images = model.preprocess_image([inputs])
    logits = model.sem_seg_head.layers(model.backbone(images.tensor))
    full = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(full[:, :, :96], inputs["sem_seg"][None])
    torch.testing.assert_close(losses["loss_sem_seg"], expected)


def test_images_of_different_sizes_learn_together() -> None:
    model = tiny_model(META_ARCHITECTURE="SemanticSegmentor").train()
    small = {"image": tiny_image(40, 48), "sem_seg": torch.full((40, 48), 255)}
    losses = model([tiny_training_input([10.0, 10, 50, 40]), small])
    losses["loss_sem_seg"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("sem_seg", "message"),
    [
        (None, r"Image 1 has no classes of its pixels.*'sem_seg'"),
        (torch.zeros(96, 64), r"Image 1 has 96x128 pixels.*shape \(96, 64\)"),
        (torch.full((96, 128), 5), r"pixels of class 5.*0 to 4 \(255 is ignored\)"),
        (torch.full((96, 128), -1), "pixels of class -1"),
    ],
)
def test_wrong_classes_of_pixels_are_told(sem_seg: torch.Tensor | None, message: str) -> None:
    model = tiny_model(META_ARCHITECTURE="SemanticSegmentor").train()
    wrong = {"image": tiny_image()} | ({} if sem_seg is None else {"sem_seg": sem_seg})
    with pytest.raises(ValueError, match=message):
        model([tiny_training_input(), wrong])
