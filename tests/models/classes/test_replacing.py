"""New last layers: their rows, how they begin, and that the model works with them."""

from typing import Any

import pytest
import torch
from tiny_models import tiny_image, tiny_model
from torch import nn

from models import Boxes, Instances, ModelError, num_classes, replace_predictor
from models.architectures.fcos import FCOS, FCOSHead
from models.layers import ShapeSpec

CASCADE = {
    "ROI_HEADS__NAME": "CascadeROIHeads",
    "ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
}
ROTATED = {
    "ANCHOR_GENERATOR__NAME": "RotatedAnchorGenerator",
    "PROPOSAL_GENERATOR__NAME": "RRPN",
    "RPN__BBOX_REG_WEIGHTS": (1.0,) * 5,
    "ROI_HEADS__NAME": "RROIHeads",
    "ROI_BOX_HEAD__POOLER_TYPE": "ROIAlignRotated",
    "ROI_BOX_HEAD__BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0, 1.0),
}
# Overrides of the tiny config -> rows of each layer with five classes.
BOX = "roi_heads.box_predictor"
MODELS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "mask": (
        {"MASK_ON": True},
        {f"{BOX}.cls_score": 6, f"{BOX}.bbox_pred": 20, "roi_heads.mask_head.predictor": 5},
    ),
    "agnostic": (
        {
            "MASK_ON": True,
            "ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
            "ROI_MASK_HEAD__CLS_AGNOSTIC_MASK": True,
        },
        {f"{BOX}.cls_score": 6, f"{BOX}.bbox_pred": 4, "roi_heads.mask_head.predictor": 1},
    ),
    "sigmoid": (
        {"ROI_BOX_HEAD__USE_SIGMOID_CE": True},
        {f"{BOX}.cls_score": 6, f"{BOX}.bbox_pred": 20},
    ),
    "cascade": (
        CASCADE,
        {f"{BOX}.{i}.{layer}": rows for i in range(3) for layer, rows in
         (("cls_score", 6), ("bbox_pred", 4))},
    ),
    "rotated": (ROTATED, {f"{BOX}.cls_score": 6, f"{BOX}.bbox_pred": 25}),
    "keypoints": (
        {"KEYPOINT_ON": True},
        {f"{BOX}.cls_score": 6, "roi_heads.keypoint_head.score_lowres": 4},
    ),
    "retinanet": (
        {"META_ARCHITECTURE": "RetinaNet"}, {"head.cls_score": 15, "head.bbox_pred": 12}
    ),
    "panoptic": (
        {"META_ARCHITECTURE": "PanopticFPN", "MASK_ON": True},
        {f"{BOX}.cls_score": 6, "sem_seg_head.predictor": 5},
    ),
    "semantic": ({"META_ARCHITECTURE": "SemanticSegmentor"}, {"sem_seg_head.predictor": 5}),
}  # fmt: skip


def losses(model: nn.Module, classes: list[int]) -> dict[str, torch.Tensor]:
    image = tiny_image()
    count = len(classes)
    boxes = torch.tensor([[8.0 + 8 * i, 8.0, 56.0 + 8 * i, 60.0] for i in range(count)])
    truth = Instances(
        (96, 128), gt_boxes=Boxes(boxes), gt_classes=torch.tensor(classes, dtype=torch.int64)
    )
    sem_seg = torch.arange(96 * 128).view(96, 128) % 5
    return model.train()([{"image": image, "instances": truth, "sem_seg": sem_seg}])


@pytest.mark.parametrize("name", MODELS)
def test_rows_follow_the_number_of_classes(name: str) -> None:
    overrides, rows = MODELS[name]
    model = tiny_model(**overrides)
    assert replace_predictor(model, 5) is model
    assert num_classes(model) == 5
    for layer_name, count in rows.items():
        layer = model.get_submodule(layer_name)
        channels = layer.weight.shape[1 if "score_lowres" in layer_name else 0]
        assert channels == len(layer.bias) == count
        named = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        assert named == count


@pytest.mark.parametrize("name", MODELS)
def test_every_attribute_follows(name: str) -> None:
    overrides, _ = MODELS[name]
    model = replace_predictor(tiny_model(**overrides), 7)
    own = {
        path: module.num_classes
        for path, module in model.named_modules()
        if hasattr(module, "num_classes") and (name != "panoptic" or path != "sem_seg_head")
    }
    assert own
    assert set(own.values()) <= ({7, 1} if name == "agnostic" else {7})


@pytest.mark.parametrize("name", MODELS)
def test_new_classes_are_answered(name: str) -> None:
    """With scores of chance, the new classes are among the answers."""
    overrides, _ = MODELS[name]
    model = tiny_model(**overrides, ROI_HEADS__SCORE_THRESH_TEST=0.0)
    model.test_score_thresh = 0.0
    replace_predictor(model, 5)
    with torch.no_grad():
        output = model([{"image": tiny_image(), "height": 96, "width": 128}])[0]
    if "instances" in output:
        assert int(output["instances"].pred_classes.max()) > 2
    else:
        assert output["sem_seg"].shape == (5, 96, 128)


@pytest.mark.parametrize("name", ["mask", "sigmoid", "cascade", "retinanet", "panoptic"])
def test_training_goes_on_with_the_new_classes(name: str) -> None:
    overrides, _ = MODELS[name]
    if name in ("mask", "panoptic"):  # masks need ground truth of their own
        overrides = overrides | {"MASK_ON": False}
    if name == "panoptic":
        overrides = {"META_ARCHITECTURE": "SemanticSegmentor"}
    model = replace_predictor(tiny_model(**overrides), 5)
    total = sum(losses(model, [3, 4]).values())
    total.backward()
    for path in ("roi_heads.box_predictor.cls_score", "head.cls_score", "sem_seg_head.predictor"):
        try:
            layer = model.get_submodule(path)
        except AttributeError:
            continue
        assert float(layer.weight.grad.abs().sum()) > 0


def test_layers_begin_as_detectron2s() -> None:
    torch.manual_seed(0)
    model = replace_predictor(tiny_model(MASK_ON=True, ROI_BOX_HEAD__FC_DIM=256), 40)
    predictor = model.roi_heads.box_predictor
    masks = model.roi_heads.mask_head.predictor
    for layer, std in ((predictor.cls_score, 0.01), (predictor.bbox_pred, 0.001), (masks, 0.001)):
        assert float(layer.weight.detach().std()) == pytest.approx(std, rel=0.2)
        assert not layer.bias.any()


@pytest.mark.parametrize(("prior", "bias"), [(None, -4.59512), (0.5, 0.0)])
def test_dense_scores_begin_at_the_prior(prior: float | None, bias: float) -> None:
    model = tiny_model(META_ARCHITECTURE="RetinaNet")
    boxes = model.head.bbox_pred.weight
    replace_predictor(model, 5, **({} if prior is None else {"prior_prob": prior}))
    torch.testing.assert_close(model.head.cls_score.bias, torch.full((15,), bias))
    assert model.head.bbox_pred.weight is boxes  # it serves all classes


def test_fcos() -> None:
    backbone = tiny_model().backbone
    head = FCOSHead(input_shape=[ShapeSpec(channels=8)], num_classes=3, conv_dims=[8])
    model: Any = FCOS(
        backbone=backbone, head=head, num_classes=3, pixel_mean=[0.0] * 3, pixel_std=[60.0] * 3
    ).eval()
    replace_predictor(model, 5)
    assert num_classes(model) == model.num_classes == 5
    assert len(model.head.cls_score.weight) == 5
    assert "instances" in model([{"image": tiny_image()}])[0]


def test_the_parts_of_a_panoptic_model() -> None:
    model = tiny_model(META_ARCHITECTURE="PanopticFPN", MASK_ON=True)
    replace_predictor(model, 7, part="stuff")
    assert (num_classes(model), num_classes(model, "stuff")) == (3, 7)
    replace_predictor(model, 4)
    assert (num_classes(model), num_classes(model, "stuff")) == (4, 7)
    with torch.no_grad():
        output = model([{"image": tiny_image()}])[0]
    assert len(output["sem_seg"]) == 7


def test_dtype_and_mode_stay() -> None:
    model = replace_predictor(tiny_model().bfloat16().train(), 5)
    assert {p.dtype for p in model.roi_heads.parameters()} == {torch.bfloat16}
    assert model.training


def test_new_layers_learn_though_the_rest_is_frozen() -> None:
    model = tiny_model()
    model.requires_grad_(False)
    replace_predictor(model, 5)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert {name.rpartition(".")[0] for name in learning} == {
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
    }


def test_a_federated_loss_forgets_the_old_data() -> None:
    model = tiny_model(ROI_BOX_HEAD__USE_SIGMOID_CE=True, ROI_BOX_HEAD__USE_FED_LOSS=True)
    predictor = model.roi_heads.box_predictor
    predictor.set_fed_loss_weights(torch.tensor([1.0, 2.0, 3.0]))
    replace_predictor(model, 5)
    assert predictor.fed_loss_cls_weights is None
    predictor.set_fed_loss_weights(torch.ones(5))


def test_a_layer_that_forgot_the_background_is_put_right() -> None:
    """What the well-known recipe does, ``cls_score = nn.Linear(in_features, K)``, lacks a row."""
    model = tiny_model()
    predictor = model.roi_heads.box_predictor
    predictor.cls_score = nn.Linear(predictor.cls_score.in_features, 3)
    assert num_classes(replace_predictor(model, 3)) == 3
    assert len(predictor.cls_score.weight) == 4


@pytest.mark.parametrize("number", [0, -1, 2.0, True, "3"])
def test_numbers_that_are_none(number: Any) -> None:
    model = tiny_model()
    with pytest.raises(ModelError, match="1 class or more"):
        replace_predictor(model, number)
    assert num_classes(model) == 3


def test_a_proposal_network_has_no_classes() -> None:
    model = tiny_model(META_ARCHITECTURE="ProposalNetwork")
    assert num_classes(model) == 1
    with pytest.raises(ModelError, match="knows no classes"):
        replace_predictor(model, 3)


def test_a_model_without_that_part() -> None:
    with pytest.raises(ModelError, match=r"no classes of 'stuff', only of 'things'"):
        replace_predictor(tiny_model(), 3, part="stuff")
