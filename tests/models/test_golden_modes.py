"""The exact mode against Detectron2's own answers; `make fidelity` does it for every model."""

import golden
import pytest

CASES = [
    "COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x",
    "COCO-Detection__retinanet_R_50_FPN_3x",
    "COCO-Keypoints__keypoint_rcnn_R_50_FPN_3x",
    "Misc__mask_rcnn_R_50_FPN_3x_dconv_c3-c5",
    "lazy__mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ",
]


@pytest.mark.parametrize("name", CASES)
def test_exact_answers_keep_every_rule(name: str) -> None:
    run = golden.run_case(name, mode="exact")
    assert (run.plan.mode, run.plan.reason) == ("exact", "")
    assert run.plan.folded_norms > 50
    differences = golden.compare_run(run)
    assert differences.broken == []
    assert differences.clear > 100
    assert differences.worst_score < 1e-4
    assert differences.worst_box < 0.01
