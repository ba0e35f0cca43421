"""Answers that the embedded model does not give: keypoints, panoptic segments, rotated boxes, proposals."""

from __future__ import annotations

from typing import Any

import numpy as np
from browser_page import SAMPLES, OpenPage, box, colors_on, drawn, encode, rgb
from playwright.sync_api import Page, expect

COLOR, STUFF = "#12ab34", "#ab1234"


def models(**described: Any) -> dict[str, Any]:
    """GET /models of one model."""
    model = {
        "name": "people",
        "version": "1",
        "versions": [
            {"version": "1", "state": "ready", "reason": None, "current": True, "aliases": []}
        ],
        "architecture": "GeneralizedRCNN",
        "backbone": "ResNet-50 FPN",
        "classes": [{"id": 0, "name": "person", "color": COLOR}],
        "stuff_classes": [{"id": 0, "name": "grass", "color": STUFF}],
        "tta": None,
        "device": "cpu",
        "thresholds": {"score": 0.05, "default_score": 0.05},
    }
    return {"default": "people", "models": [model | described]}


def answer(**outputs: Any) -> dict[str, Any]:
    """POST /predict for a picture of 40 by 30."""
    return {
        "model": {
            "name": "people",
            "version": "1",
            "keypoint_names": ["head", "foot"],
            "keypoint_skeleton": [[0, 1]],
        },
        "request_id": "4f1c",
        "predictions": [{"image": {"name": "a", "width": 40, "height": 30}, **outputs}],
        "timing_ms": {"decode": 1, "queue": 0, "inference": 20, "encode": 1, "total": 23},
    }


def instances(**fields: Any) -> dict[str, Any]:
    return {
        "box_mode": "XYXY_ABS",
        "pred_boxes": [[4, 4, 20, 26]],
        "pred_classes": [0],
        "class_names": ["person"],
        "scores": [0.9],
    } | fields


def opened(open_page: OpenPage, predict: dict[str, Any], **described: Any) -> Page:
    page = open_page(models=models(**described), predict=predict)
    page.set_input_files("#files", SAMPLES[0])
    return page


def test_keypoints_are_drawn_with_their_skeleton(open_page: OpenPage) -> None:
    found = instances(pred_keypoints=[[[10, 6, 0.9], [10, 24, 0.8]]])
    page = opened(open_page, answer(instances=found))
    expect(page.locator("#rows tr")).to_have_count(1)
    for kind in ("boxes", "names"):
        page.click(f"[data-show={kind}]")
    expect(page.locator("[data-show=keypoints]")).to_be_visible()
    expect(page.locator("[data-show=masks]")).to_be_hidden()
    drawn(page)
    assert rgb(COLOR) in colors_on(page)
    page.click("[data-show=keypoints]")
    drawn(page)
    assert rgb(COLOR) not in colors_on(page)


def test_panoptic_and_instances_are_layers_to_choose_from(open_page: OpenPage) -> None:
    grass = encode(box(15, 0, 30, 40))
    person = encode(box(4, 4, 15, 20))
    segments = [
        {"id": 1, "isthing": True, "category_id": 0, "category_name": "person", "area": 176,
         "score": 0.9, "segmentation": person},
        {"id": 2, "isthing": False, "category_id": 0, "category_name": "grass", "area": 600,
         "segmentation": grass},
    ]  # fmt: skip
    panoptic = {"format": "rle", "segments_info": segments}
    page = opened(open_page, answer(instances=instances(), panoptic_seg=panoptic))
    expect(page.locator("#rows tr")).to_have_count(1)
    page.select_option("#layer", "panoptic_seg")
    expect(page.locator("#rows tr")).to_have_count(2)
    expect(page.locator("#rows")).to_contain_text("600 px")
    drawn(page)
    assert {rgb(COLOR), rgb(STUFF)} <= colors_on(page)
    # What has no score passes every threshold.
    page.locator("#threshold").fill("1")
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#rows")).to_contain_text("grass")


def test_a_semantic_map_has_its_classes(open_page: OpenPage) -> None:
    segment = {"category_id": 0, "category_name": "grass", "area": 1200,
               "segmentation": encode(np.ones((30, 40), dtype=bool))}  # fmt: skip
    page = opened(open_page, answer(sem_seg={"format": "rle", "segments": [segment]}))
    expect(page.locator("#rows")).to_contain_text("grass")
    expect(page.locator("#layer-field")).to_be_hidden()


def test_rotated_boxes_are_drawn_by_their_corners(open_page: OpenPage) -> None:
    rotated = instances(
        box_mode="XYWHA_ABS",
        pred_boxes=[[20, 15, 16, 8, 45]],
        polygons=[[[11.5, 18], [22.8, 6.7], [28.5, 12], [17.2, 23.3]]],
    )
    page = opened(open_page, answer(instances=rotated))
    expect(page.locator("#rows")).to_contain_text("12, 7 \N{EN DASH} 29, 23")
    drawn(page)
    assert rgb(COLOR) in colors_on(page)


def test_proposals_have_the_probability_of_an_object(open_page: OpenPage) -> None:
    found = {
        "box_mode": "XYXY_ABS",
        "proposal_boxes": [[1, 1, 9, 9], [2, 2, 30, 20]],
        "objectness_logits": [2.0, -3.0],
    }
    page = opened(open_page, answer(proposals=found), classes=[])
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#rows")).to_contain_text("0.881")


def test_a_model_without_augmentation_has_no_switch_for_it(open_page: OpenPage) -> None:
    page = opened(open_page, answer(instances=instances()))
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#tta-field")).to_be_hidden()


def test_the_threshold_of_the_models_owner_is_where_the_slider_stands(open_page: OpenPage) -> None:
    thresholds = {"score": 0.05, "default_score": 0.7}
    page = opened(open_page, answer(instances=instances()), thresholds=thresholds)
    expect(page.locator("#threshold")).to_have_value("0.7")


def test_a_version_with_a_higher_threshold_of_its_own_is_asked_at_that(open_page: OpenPage) -> None:
    page = open_page(models=models(), refused=True)
    asked: list[str] = []

    def reply(route: Any) -> None:
        asked.append(route.request.url)
        if "score_threshold=0.3" in route.request.url:
            route.fulfill(json=answer(instances=instances()))
            return
        details = {"value": 0.05, "minimum": 0.3}
        error = {"code": "score_threshold_too_low", "message": "Too low.", "details": details}
        route.fulfill(status=422, json={"error": error | {"request_id": "4f1c"}})

    page.route("**/predict?*", reply)
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(1)
    assert len(asked) == 2
