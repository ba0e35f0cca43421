"""What Detectron2's built-in data sets are about: class names, keypoints, by the data set's name.

A config or checkpoint holds no class names, only names of data sets. LVIS is not here: its 1,203
names come from a labels file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.sidecars import KeypointNames

# COCO's panoptic categories as "id name"; ids have gaps, so they are given.
_COCO_THINGS = """
1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat,
10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench, 16 bird, 17 cat,
18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe, 27 backpack,
28 umbrella, 31 handbag, 32 tie, 33 suitcase, 34 frisbee, 35 skis, 36 snowboard, 37 sports ball,
38 kite, 39 baseball bat, 40 baseball glove, 41 skateboard, 42 surfboard, 43 tennis racket,
44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl, 52 banana, 53 apple,
54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake, 62 chair,
63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet, 72 tv, 73 laptop, 74 mouse,
75 remote, 76 keyboard, 77 cell phone, 78 microwave, 79 oven, 80 toaster, 81 sink,
82 refrigerator, 84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear, 89 hair drier,
90 toothbrush
"""
# All things are one class of the semantic head, the first one.
_COCO_STUFF = """
things, banner, blanket, bridge, cardboard, counter, curtain, door-stuff, floor-wood, flower, fruit,
gravel, house, light, mirror-stuff, net, pillow, platform, playingfield, railroad, river, road,
roof, sand, sea, shelf, snow, stairs, tent, towel, wall-brick, wall-stone, wall-tile, wall-wood,
water-other, window-blind, window-other, tree-merged, fence-merged, ceiling-merged,
sky-other-merged, cabinet-merged, table-merged, floor-other-merged, pavement-merged,
mountain-merged, grass-merged, dirt-merged, paper-merged, food-other-merged, building-other-merged,
rock-merged, wall-other-merged, rug-merged
"""
_CITYSCAPES_THINGS = """
24 person, 25 rider, 26 car, 27 truck, 28 bus, 31 train, 32 motorcycle, 33 bicycle
"""
_CITYSCAPES_STUFF = """
road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky,
person, rider, car, truck, bus, train, motorcycle, bicycle
"""
_VOC = """
aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse,
motorbike, person, pottedplant, sheep, sofa, train, tvmonitor
"""
_SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_PERSON_SKELETON = """
left_ear left_eye, right_ear right_eye, left_eye nose, nose right_eye,
left_shoulder right_shoulder, left_shoulder left_elbow, right_shoulder right_elbow,
left_elbow left_wrist, right_elbow right_wrist, left_hip right_hip, left_hip left_knee,
right_hip right_knee, left_knee left_ankle, right_knee right_ankle
"""


@dataclass(frozen=True)
class DatasetMetadata:
    """What the numbers that a model answers with mean.

    Attributes:
        source: where this comes from, such as ``data set coco_2017_val``.
        thing_classes: names of the instance classes; the index is the class id of the model.
        thing_ids: the data set's own id of each of them; empty where it has none.
        stuff_classes: names of the classes of a semantic head, in its order.
        keypoint_names: of one instance, in the order of the model.
        keypoint_skeleton: pairs of names to draw a line between.
        keypoint_flip_map: pairs of names that change places in a mirror image.
    """

    source: str
    thing_classes: tuple[str, ...] = ()
    thing_ids: tuple[int, ...] = ()
    stuff_classes: tuple[str, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    keypoint_skeleton: tuple[tuple[str, str], ...] = ()
    keypoint_flip_map: tuple[tuple[str, str], ...] = ()


def dataset_metadata(dataset_name: str) -> DatasetMetadata | None:
    """The metadata of one of Detectron2's built-in data sets; None for any other name."""
    for pattern, metadata in _KNOWN:
        if pattern.fullmatch(dataset_name):
            return replace(metadata, source=f"data set {dataset_name}")
    return None


def metadata_for(cfg: Mapping[str, Any]) -> DatasetMetadata | None:
    """The metadata of the data sets that a config names, if it can be trusted.

    None when the config names no data set or one that is not built in, when its data sets are of
    different kinds, or when their number of classes is not the model's: names of other classes
    would be worse than none.

    Args:
        cfg: a :class:`models.Config`.
    """
    datasets = cfg["DATASETS"]
    names = [*datasets["TEST"], *datasets["TRAIN"]]
    found = [dataset_metadata(name) for name in names]
    if not found or found[0] is None:
        return None
    first = found[0]
    if any(other is None or replace(other, source=first.source) != first for other in found):
        return None
    return first if _fits(first, cfg["MODEL"]) else None


def keypoints_for(cfg: Mapping[str, Any]) -> KeypointNames | None:
    """The keypoints of the data sets that a config names, if its model has as many.

    Unlike :func:`metadata_for` this asks nothing of the classes: it is for whoever knows that the keypoints
    are still those of the data sets, though the classes are others.
    """
    model = cfg["MODEL"]
    names = [*cfg["DATASETS"]["TEST"], *cfg["DATASETS"]["TRAIN"]]
    found = {
        KeypointNames(known.keypoint_names, known.keypoint_flip_map, known.keypoint_skeleton)
        if (known := dataset_metadata(name)) is not None
        else None
        for name in names
    }
    first = next(iter(found), None)
    number: int = model["ROI_KEYPOINT_HEAD"]["NUM_KEYPOINTS"]
    if first is None or len(found) != 1 or not model["KEYPOINT_ON"] or len(first.names) != number:
        return None
    return first


def _fits(metadata: DatasetMetadata, model: Mapping[str, Any]) -> bool:
    architecture: str = model["META_ARCHITECTURE"]
    dense = architecture in {"RetinaNet", "FCOS"}
    num_classes: int = model["RETINANET" if dense else "ROI_HEADS"]["NUM_CLASSES"]
    num_stuff: int = model["SEM_SEG_HEAD"]["NUM_CLASSES"]
    num_keypoints: int = model["ROI_KEYPOINT_HEAD"]["NUM_KEYPOINTS"]
    things = len(metadata.thing_classes) == num_classes
    stuff = len(metadata.stuff_classes) == num_stuff
    if architecture == "SemanticSegmentor":
        return stuff
    if architecture == "PanopticFPN":
        return things and stuff
    if architecture == "ProposalNetwork":  # it has no classes
        return False
    points = len(metadata.keypoint_names) == num_keypoints
    return things and (points or not model["KEYPOINT_ON"])


def _words(table: str) -> tuple[str, ...]:
    return tuple(" ".join(word.split()) for word in table.split(","))


def _pairs(table: str) -> tuple[tuple[str, str], ...]:
    pairs = [word.split(" ") for word in _words(table)]
    return tuple((first, second) for first, second in pairs)


def _things(table: str) -> dict[str, Any]:
    numbered = [word.split(" ", 1) for word in _words(table)]
    return {
        "thing_classes": tuple(name for _, name in numbered),
        "thing_ids": tuple(int(number) for number, _ in numbered),
    }


def _known() -> Sequence[tuple[re.Pattern[str], DatasetMetadata]]:
    coco_things: dict[str, Any] = _things(_COCO_THINGS)
    coco_stuff = _words(_COCO_STUFF)
    flip_map = tuple((f"left_{part}", f"right_{part}") for part in _SIDED)
    split = r"(?:train|val|test|test-dev|minival|valminusminival)(?:_\d+)?"
    known = {
        rf"coco_20(?:14|17)_{split}": DatasetMetadata("", **coco_things),
        rf"coco_2017_{split}_panoptic_separated": DatasetMetadata(
            "", **coco_things, stuff_classes=coco_stuff
        ),
        rf"coco_2017_{split}_panoptic_stuffonly": DatasetMetadata("", stuff_classes=coco_stuff),
        rf"keypoints_coco_20(?:14|17)_{split}": DatasetMetadata(
            "",
            thing_classes=("person",),
            thing_ids=(1,),
            keypoint_names=("nose", *(name for pair in flip_map for name in pair)),
            keypoint_skeleton=_pairs(_PERSON_SKELETON),
            keypoint_flip_map=flip_map,
        ),
        r"cityscapes_fine_(?:instance_seg|sem_seg|panoptic)_(?:train|val|test)": DatasetMetadata(
            "", **_things(_CITYSCAPES_THINGS), stuff_classes=_words(_CITYSCAPES_STUFF)
        ),
        r"voc_20(?:07|12)_(?:train|val|trainval|test)": DatasetMetadata(
            "", thing_classes=_words(_VOC)
        ),
    }
    return [(re.compile(pattern), metadata) for pattern, metadata in known.items()]


_KNOWN = _known()
