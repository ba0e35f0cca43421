"""Our answers against Detectron2's own, architecture by architecture."""

import golden
import pytest
from golden import Differences, GoldenRun

# In `make fidelity` alone. The C4 models take most of a minute on one core, nearly all of it in res5
# on a thousand regions: heads/test_res5_roi_heads.py tests that part. The others take a while too, and
# all of their parts are in cases that run here.
SLOW = {
    "COCO-Detection__faster_rcnn_R_50_C4_3x",
    "COCO-InstanceSegmentation__mask_rcnn_R_50_C4_3x",
    "COCO-InstanceSegmentation__mask_rcnn_R_50_DC5_3x",
    "COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x__TTA",
    "Cityscapes__mask_rcnn_R_50_FPN",
    "LVISv1-InstanceSegmentation__mask_rcnn_R_50_FPN_1x",
    "Misc__panoptic_fpn_R_101_dconv_cascade_gn_3x",
    "PascalVOC-Detection__faster_rcnn_R_50_C4",
}


@pytest.fixture(scope="module", params=[name for name in golden.CASES if name not in SLOW])
def run(request: pytest.FixtureRequest) -> GoldenRun:
    """Detectron2's answer and ours for one folder; each model runs once."""
    with_tta = request.param.endswith("__TTA")  # many views of each image: one image will do
    return golden.run_case(request.param, images=1 if with_tta else None)


@pytest.fixture(scope="module")
def differences(run: GoldenRun) -> Differences:
    return golden.compare_run(run)


def test_there_are_golden_answers() -> None:
    assert len(golden.CASES) >= 30
    assert set(golden.CASES) > SLOW


def test_parameter_names_and_shapes_are_equal(run: GoldenRun) -> None:
    assert run.parameters == run.expected["parameters"]


def test_answers_keep_every_rule(differences: Differences) -> None:
    assert differences.broken == []


def test_something_was_compared(run: GoldenRun, differences: Differences) -> None:
    kinds = set(run.expected["outputs"][0])
    if "instances" in kinds:
        assert differences.clear > 50
    assert (differences.keypoints > 0) == ("keypoint" in run.name)
    assert (differences.worst_proposal_iou is not None) == bool(kinds & {"rpn", "proposals"})
    assert (differences.worst_sem_seg is not None) == ("sem_seg" in kinds)
    assert (differences.worst_panoptic is not None) == ("panoptic_seg" in kinds)
    assert (differences.worst_feature is not None) == (not run.expected["tta"])
