"""Does a data set fit the config that is to be trained with it? Every mismatch gets its sentence."""

from __future__ import annotations

from models.config import Config
from models.metadata import metadata_for
from models.training.data.classes import listed
from models.training.data.dataset import TrainingDataset, TrainingImage, TrainingObject
from models.training.data.expectations import Expectations, expectations_of
from models.training.data.findings import Finding
from models.training.data.semantic_checks import check_semantic

_COCO_KEYPOINTS = 17


def check_against_config(dataset: TrainingDataset, cfg: Config) -> list[Finding]:
    """What of ``cfg`` does not fit ``dataset``; some semantic maps are decoded.

    Args:
        dataset: to train on.
        cfg: YAML or lazy.
    """
    wanted = expectations_of(cfg)
    objects = [
        (image, thing) for image in dataset.images for thing in image.objects if not thing.is_crowd
    ]
    return [
        *_classes(dataset, wanted, cfg),
        *_masks(dataset, objects, wanted, cfg),
        *_keypoints(dataset, objects, wanted, cfg),
        *check_semantic(dataset, wanted, cfg),
        *_proposals(cfg),
        *_rotation(objects, wanted),
    ]


def _classes(dataset: TrainingDataset, wanted: Expectations, cfg: Config) -> list[Finding]:
    if wanted.num_classes is None:
        return []
    names = dataset.class_names
    if len(names) != wanted.num_classes:
        highest = max((o.class_id for i in dataset.images for o in i.objects), default=0)
        harm = (
            f"class {highest} ({names[highest]}) would have no place in the model"
            if highest >= wanted.num_classes
            else "some of the model's classes would have no name and no example"
        )
        return [
            Finding(
                "error",
                "class-count",
                f"The data has {len(names)} classes ({listed(names)}), but {wanted.classes_key} is "
                f"{wanted.num_classes}; {harm}.",
                f"Set {wanted.classes_key} {len(names)} (detserve train --classes data does), or give the "
                "model's class names, so that the data's are matched with them.",
            )
        ]
    known = metadata_for(cfg)
    if known is None or known.thing_classes == names:
        return []
    if set(known.thing_classes) == set(names):
        return [
            Finding(
                "error",
                "class-order",
                f"The data has the classes of the {known.source}, which the config names, but in another "
                "order, so the model's numbers would mean other names than before.",
                "Give the model's class names, so that the data's are matched with them.",
            )
        ]
    return [
        Finding(
            "note",
            "class-names",
            f"The config names the {known.source}, whose classes are others than those of the data; those "
            f"of the data are taken ({listed(names)}).",
        )
    ]


def _masks(
    dataset: TrainingDataset,
    objects: list[tuple[TrainingImage, TrainingObject]],
    wanted: Expectations,
    cfg: Config,
) -> list[Finding]:
    if not wanted.masks:
        if not dataset.has_masks or wanted.num_stuff is not None:
            return []
        return [
            Finding("note", "masks-unused", "The data has masks, but the model has no mask head.")
        ]
    findings = []
    bare = [image.path.name for image, o in objects if not o.polygons and not o.rle]
    if objects and len(bare) == len(objects):
        findings.append(
            Finding(
                "error",
                "masks-absent",
                "The model learns masks (MODEL.MASK_ON), but the data has boxes only.",
                "Set MODEL.MASK_ON False, or annotate masks.",
            )
        )
    elif bare:
        findings.append(
            Finding.at(
                "error",
                "masks-some-absent",
                "The model learns masks (MODEL.MASK_ON), but objects have none.",
                "Annotate their masks, mark them as iscrowd, or set MODEL.MASK_ON False.",
                bare,
            )
        )
    mask_format = cfg.INPUT.MASK_FORMAT
    if mask_format not in ("polygon", "bitmask"):
        findings.append(
            Finding(
                "error",
                "mask-format",
                f"INPUT.MASK_FORMAT is {mask_format!r}.",
                "It is polygon or bitmask.",
            )
        )
    encoded = [image.path.name for image, o in objects if o.rle is not None]
    if encoded and mask_format == "polygon":
        findings.append(
            Finding.at(
                "note",
                "mask-format",
                "INPUT.MASK_FORMAT is polygon and objects have masks as RLE: they become bit masks, so "
                "either may be mixed and nothing is to do.",
                "",
                encoded,
            )
        )
    return findings


def _keypoints(
    dataset: TrainingDataset,
    objects: list[tuple[TrainingImage, TrainingObject]],
    wanted: Expectations,
    cfg: Config,
) -> list[Finding]:
    number = len(dataset.keypoint_names)
    if not wanted.num_keypoints:
        if not dataset.has_keypoints:
            return []
        unused = "The data has keypoints, but the model has no keypoint head."
        return [Finding("note", "keypoints-unused", unused)]
    if not dataset.has_keypoints:
        return [
            Finding(
                "error",
                "keypoints-absent",
                "The model learns keypoints (MODEL.KEYPOINT_ON), but no object has any.",
                "Set MODEL.KEYPOINT_ON False, or annotate keypoints.",
            )
        ]
    findings = []
    if number != wanted.num_keypoints:
        findings.append(
            Finding(
                "error",
                "keypoint-count",
                f"The data has {number} keypoints ({listed(dataset.keypoint_names)}), but "
                f"{wanted.keypoints_key} is {wanted.num_keypoints}.",
                f"Set {wanted.keypoints_key} {number}.",
            )
        )
    if cfg.INPUT.RANDOM_FLIP != "none" and dataset.flip_permutation() is None:
        findings.append(
            Finding(
                "error",
                "flip-map-absent",
                f"Pictures are mirrored in training (INPUT.RANDOM_FLIP {cfg.INPUT.RANDOM_FLIP}), but nothing "
                f"says which keypoints then swap ({listed(dataset.keypoint_names)}).",
                'Add "flip_map": [["left_eye", "right_eye"], ...] to the category, [] if none swap; or name '
                "keypoints left_... and right_...; or set INPUT.RANDOM_FLIP none.",
            )
        )
    bare = [image.path.name for image, thing in objects if thing.keypoints is None]
    if bare:
        findings.append(
            Finding.at(
                "note",
                "keypoints-some-absent",
                "Objects have no keypoints; their boxes and classes are learned.",
                "",
                bare,
            )
        )
    return findings + _sigmas(wanted.num_keypoints, cfg)


def _sigmas(num_keypoints: int, cfg: Config) -> list[Finding]:
    sigmas = cfg.TEST.KEYPOINT_OKS_SIGMAS
    if sigmas and len(sigmas) != num_keypoints:
        return [
            Finding(
                "error",
                "oks-sigmas",
                f"TEST.KEYPOINT_OKS_SIGMAS has {len(sigmas)} values for {num_keypoints} keypoints.",
                "Give one for each, or none.",
            )
        ]
    if not sigmas and num_keypoints != _COCO_KEYPOINTS:
        return [
            Finding(
                "note",
                "oks-sigmas",
                f"TEST.KEYPOINT_OKS_SIGMAS is empty, and COCO has none for {num_keypoints} keypoints; "
                "evaluation takes one value for all of them.",
                "Set it to the standard deviation of each keypoint among annotators, for a stricter measure.",
            )
        ]
    return []


def _proposals(cfg: Config) -> list[Finding]:
    made_elsewhere = (
        cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
        and cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals"
    )
    if not (cfg.MODEL.LOAD_PROPOSALS or made_elsewhere):
        return []
    return [
        Finding(
            "error",
            "proposals-absent",
            "The model takes precomputed proposals (MODEL.LOAD_PROPOSALS), but the data has none; files "
            "of them (DATASETS.PROPOSAL_FILES_TRAIN) are not read in training.",
            "Let the model make its own: MODEL.LOAD_PROPOSALS False MODEL.PROPOSAL_GENERATOR.NAME RPN.",
        )
    ]


def _rotation(
    objects: list[tuple[TrainingImage, TrainingObject]], wanted: Expectations
) -> list[Finding]:
    rotated = [image.path.name for image, thing in objects if thing.rotated_box is not None]
    if wanted.rotated and objects and not rotated:
        return [
            Finding(
                "warning",
                "boxes-upright",
                "The model learns rotated boxes, but all of the data's are upright, of angle 0.",
            )
        ]
    if not rotated or wanted.rotated:
        return []
    return [
        Finding.at(
            "warning",
            "boxes-rotated",
            "Boxes are rotated, but the model's are upright: the ones around them are learned.",
            "",
            rotated,
        )
    ]
