"""Old classes answer as before on Detectron2's golden images, whatever is added and however ordered.

The parts that no class touches run once: the extended model gets the old one's features and proposals.
"""

import json
from dataclasses import dataclass
from typing import Any

import golden
import pytest
import torch
from seeded_weights import seeded_state
from torch import Tensor

from models import build_model, extend_classes, load_config
from models.classes import ClassChanges, ExtendedModel
from models.classes.tensors import class_tensors, main_part

# One for each way in which rows of classes lie; the other folders' heads are like one of these.
CASES = [
    "COCO-Detection__retinanet_R_50_FPN_3x",
    "COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x",
    "COCO-PanopticSegmentation__panoptic_fpn_R_50_3x",
    "Misc__cascade_mask_rcnn_R_50_FPN_3x",
    "Misc__mask_rcnn_R_50_FPN_1x_cls_agnostic",
    "Misc__semantic_R_50_FPN_1x",
    "custom__faster_rcnn_R_50_FPN_rotated",
    "custom__mask_rcnn_R_50_FPN_sigmoid_avg",
    "lazy__fcos_R_50_FPN_1x",
]
NEW = ("new one", "new two")
MOST_PROPOSALS = 200


@dataclass
class Both:
    """What the old model answers and what the extended one does."""

    old: list[dict[str, Any]]
    new: list[dict[str, Any]]
    extended: ExtendedModel

    def old_ids(self, part: str) -> Tensor:
        """For each class of the new model its old id, -1 for new ones."""
        sources = self.extended.report.plans[part].sources  # type: ignore[index]  # a name from a table
        return torch.tensor([-1 if source is None else source for source in sources])


def names_of(count: int, prefix: str) -> list[str]:
    return [f"{prefix} {i}" for i in range(count)]


def run_both(case: str) -> Both:
    folder = golden.GOLDEN / case
    expected = json.loads((folder / "expected.json").read_text())
    cfg = load_config(folder / "config.yaml")
    model: Any = build_model(cfg)
    seeded = seeded_state(model, expected["seed"], expected["stem_gain"])
    model.load_state_dict(seeded, strict=False)
    tensors = class_tensors(model)
    counts = {tensor.part: tensor.num_classes for tensor in tensors}
    names = names_of(counts[main_part(tensors)], "thing")
    stuff = names_of(counts["stuff"], "stuff") if len(counts) == 2 else []
    reordered = [NEW[1], *reversed(names), NEW[0]]
    extended = extend_classes(
        model,
        cfg,
        names,
        add=NEW,
        reorder=reordered,
        stuff_names=stuff,
        # All things keep their place in front.
        stuff=ClassChanges(add=NEW, reorder=[stuff[0], NEW[0], *stuff[:0:-1], NEW[1]])
        if stuff
        else None,
    )
    inputs = golden.golden_inputs(expected)[:1]
    with torch.inference_mode():
        images = model.preprocess_image(inputs)
        features = model.backbone(images.tensor)
        generator = getattr(model, "proposal_generator", None)
        if generator is not None:
            proposals = [each[:MOST_PROPOSALS] for each in generator(images, features)[0]]
        answers = []
        for each in (model, extended.model):
            each.backbone.forward = lambda x: features
            if generator is not None:
                each.proposal_generator.forward = lambda *args: (proposals, {})
            answers.append(each(inputs))
    return Both(*answers, extended)


@pytest.fixture(scope="module", params=CASES)
def both(request: pytest.FixtureRequest) -> Both:
    return run_both(request.param)


def test_instances_of_old_classes_are_the_same(both: Both) -> None:
    assert_same_instances(both)


def assert_same_instances(both: Both) -> None:
    for old, new in zip(both.old, both.new, strict=True):
        if "instances" not in old:
            continue
        before, after = old["instances"], new["instances"]
        classes = both.old_ids("things")[after.pred_classes]
        assert int(classes.min()) >= 0, "a class that nobody trained answers"
        assert len(before) == len(after)
        # Rounding may change the place of two that score alike, and who of them is cut off.
        clear = before.scores > before.scores.min() + 1e-4
        assert int(clear.sum()) > 5
        boxes = (before.pred_boxes.tensor[:, None] - after.pred_boxes.tensor[None]).abs().amax(2)
        scores = (before.scores[:, None] - after.scores[None]).abs()
        same = (before.pred_classes[:, None] == classes[None]) & (boxes < 1e-3) & (scores < 1e-5)
        assert bool(same.any(dim=1)[clear].all())
        partner = same.long().argmax(dim=1)[clear]
        if before.has("pred_masks"):
            masks = before.pred_masks[clear] ^ after.pred_masks[partner]
            assert int(masks.sum()) <= 1e-4 * masks.numel()
        if before.has("pred_keypoints"):
            # Two places of a heatmap may be as warm, and rounding decides between them.
            moved = before.pred_keypoints[clear] - after.pred_keypoints[partner]
            near = moved[..., :2].abs().amax(dim=2) < 0.01
            assert float(near.double().mean()) > 0.99


def test_every_pixel_keeps_its_stuff(both: Both) -> None:
    for old, new in zip(both.old, both.new, strict=True):
        if "sem_seg" not in old:
            continue
        part = "stuff" if "instances" in old else next(iter(both.extended.report.plans))
        ids = both.old_ids(part)
        kept = (ids >= 0).nonzero().flatten()
        assert torch.allclose(new["sem_seg"][kept], old["sem_seg"][ids[kept]], atol=1e-4)
        best = ids[new["sem_seg"].argmax(dim=0)]
        assert int(best.min()) >= 0
        assert float((best == old["sem_seg"].argmax(dim=0)).double().mean()) > 0.9999
        share = new["sem_seg"].softmax(dim=0)[ids < 0].sum(dim=0)
        assert float(share.max()) < 1e-4


def test_panoptic_segments_keep_their_pixels(both: Both) -> None:
    for old, new in zip(both.old, both.new, strict=True):
        if "panoptic_seg" not in old:
            continue
        classes, maps = [], []
        for output in (old, new):
            segments, info = output["panoptic_seg"]
            # Stuff is numbered in the order of its classes, which has changed: compare classes.
            table = torch.full((len(info) + 1,), -1)
            for segment in info:
                part = "things" if segment["isthing"] else "stuff"
                old_id = segment["category_id"]
                if output is new:
                    old_id = int(both.old_ids(part)[old_id])
                table[segment["id"]] = old_id + (1000 if segment["isthing"] else 0)
            maps.append(table[segments.long()])
            classes.append(sorted(table.tolist()))
        assert classes[0] == classes[1]
        assert float((maps[0] == maps[1]).double().mean()) > 0.999


def test_only_rows_of_classes_changed(both: Both) -> None:
    changed = both.extended.report.tensors
    assert changed
    for name in changed:
        assert "cls_score" in name or "bbox_pred" in name or "predictor" in name
