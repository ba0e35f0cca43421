"""Examples of what the server says of models and of their change: answers of the embedded model, rounded.

Versions 1, 2 and 3 of it lie in a repository, and 2 is current.
"""

from __future__ import annotations

from typing import Any

Example = dict[str, Any]

_SHA256 = "04a0e88c2a0839da8446b22cc07e4b465b588d0f1b1be7883055d7cd2320b3af"
_SINCE = "2026-01-31T12:00:00+00:00"
_JOB = "5e3b61f3221f4c1e890465ad12f9483a"

_DEVIATION: Example = {
    "instances": 54,
    "matched": 1.0,
    "exact": 1.0,
    "score": 2.0e-06,
    "box_px": 0.00014,
    "pixels": 0.0,
}
_EXECUTION: Example = {
    "mode": "exact",
    "requested": "exact",
    "device": "cpu",
    "reason": "",
    "dtype": "float32",
    "memory_format": "channels_last",
    "folded_norms": 61,
    "winograd": 0,
    "resize": "pil",
    "cuda_graphs": 0,
    "deviation": _DEVIATION,
}
_LOAD_REPORT: Example = {
    "file": "model_final.pth",
    "kind": "trainer .pth",
    "sha256": _SHA256,
    "size_bytes": 4541599,
    "tensors": 388,
    "parameters": 1102245,
    "ignored": [],
    "filled": [],
    "iteration": 4199,
    "uninitialised": [],
    "execution": _EXECUTION,
}

MODEL: Example = {
    "name": "shapes",
    "version": "2",
    "state": "ready",
    "versions": [
        {
            "version": "1",
            "state": "ready",
            "reason": None,
            "current": False,
            "aliases": ["candidate"],
        },
        {"version": "2", "state": "ready", "reason": None, "current": True, "aliases": []},
        {"version": "3", "state": "available", "reason": None, "current": False, "aliases": []},
    ],
    "aliases": {"candidate": "1"},
    "previous": "3",
    "recorded": "2",
    "description": "Discs, rectangles, triangles and stars.",
    "task": "instance_segmentation",
    "architecture": "GeneralizedRCNN",
    "backbone": "ResNet-50 FPN",
    "classes": [
        {"id": 0, "name": "disc", "color": "#4599ff"},
        {"id": 1, "name": "rectangle", "color": "#fd8d77"},
        {"id": 2, "name": "triangle", "color": "#04a480"},
        {"id": 3, "name": "star", "color": "#b872f1"},
    ],
    "class_names_source": "labels.txt",
    "stuff_classes": [],
    "keypoint_names": [],
    "keypoint_skeleton": [],
    "outputs": ["instances", "masks"],
    "box_mode": "XYXY_ABS",
    "takes_proposals": False,
    "takes_overrides": True,
    "tta": {"sizes": [128, 160, 208], "max_size": 400, "flip": True},
    "input": {"format": "BGR", "min_size": 160, "max_size": 320},
    "thresholds": {
        "score": 0.05,
        "nms": 0.5,
        "max_detections": 100,
        "default_score": 0.05,
        "default_max_detections": 100,
        "largest_max_detections": 1000,
    },
    "device": "cpu",
    "precision": "float32",
    "execution": _EXECUTION,
    "config": "config.yaml",
    "weights": {"file": "model_final.pth", "sha256": _SHA256},
    "loaded_at": _SINCE,
    "load_report": _LOAD_REPORT,
}

UNLOADED: Example = {
    "version": "1",
    "state": "available",
    "reason": None,
    "current": False,
    "aliases": [],
    "model": "shapes",
    "sha256": _SHA256,
    "manifest": "1a008964a72082809ef32b06d44a550aefd6aa952e5382dd0fdc5f90614ef470",
    "size_bytes": 4547352,
    "memory_bytes": None,
    "loaded_at": None,
    "requests_in_progress": None,
    "statistics": None,
}
LOADED: Example = UNLOADED | {
    "state": "ready",
    "aliases": ["candidate"],
    "memory_bytes": 4346120,
    "loaded_at": _SINCE,
    "requests_in_progress": 0,
    "statistics": {
        "requests": 1,
        "images": 1,
        "failed_images": 0,
        "batches": [{"size": 1, "count": 1, "mean_s": 0.0524, "p50_s": 0.0524, "p95_s": 0.0524}],
    },
}

_BEGUN: Example = {
    "model": "shapes",
    "action": "load",
    "id": _JOB,
    "state": "running",
    "outcome": None,
    "phase": "preflight",
    "progress": 1.0,
    "candidate": "1",
    "previous_version": "2",
    "version": None,
    "dry_run": False,
    "strategy": "side_by_side",
    "load_report": None,
    "checks": None,
    "gate": None,
    "warm_up": None,
    "freed_bytes": None,
    "warning": None,
    "created_at": 1769860800.0,
    "phases_s": {},
    "error": None,
}
_PROVEN: Example = _BEGUN | {
    "state": "succeeded",
    "phase": "done",
    "progress": None,
    "load_report": _LOAD_REPORT,
    "checks": {
        "pictures": [
            {"name": "noise", "height": 160, "width": 160, "found": 20, "seconds": 0.0229},
            {"name": "shapes-1.jpg", "height": 161, "width": 236, "found": 11, "seconds": 0.0228},
            {"name": "shapes-2.jpg", "height": 157, "width": 146, "found": 11, "seconds": 0.0194},
        ],
        "weights_checked": True,
        "deviation": _DEVIATION,
        "golden": None,
    },
    "warm_up": {
        "shapes": [
            {
                "height": 72,
                "width": 96,
                "padded_size": [160, 224],
                "batch": 1,
                "first_s": 0.0259,
                "second_s": 0.0265,
            }
        ],
        "from_traffic": True,
        "too_large": [],
        "left_out": 0,
        "recording_s": 6.0e-06,
    },
}
_LOAD_S = {"preflight": 0.0063, "load": 0.2947, "check": 0.0748, "warm_up": 0.0545}
_SWAP: Example = {
    "freed_bytes": 4346120,
    "phases_s": _LOAD_S | {"swap": 0.0016, "drain": 0.1833},
}

LOAD_BEGUN = _BEGUN
LOAD_DONE: Example = _PROVEN | {"outcome": "loaded", "version": "1", "phases_s": _LOAD_S}
RELOAD_BEGUN: Example = _BEGUN | {"action": "reload", "candidate": "3"}
RELOAD_DONE: Example = (
    _PROVEN | _SWAP | {"action": "reload", "outcome": "swapped", "candidate": "3", "version": "3"}
)
ROLLBACK_BEGUN: Example = RELOAD_BEGUN | {"action": "rollback"}
ROLLBACK_DONE: Example = RELOAD_DONE | {"action": "rollback", "outcome": "rolled_back"}

SHADOW_BEGUN: Example = {
    "model": "shapes",
    "current": "2",
    "candidate": "1",
    "share": 1.0,
    "images": {"offered": 0, "compared": 0, "dropped": 0, "failed": 0},
    "instances": {
        "matched": 0,
        "class_changed": 0,
        "only_current": 0,
        "only_candidate": 0,
        "matched_share": None,
    },
    "score_shift": {"mean": None, "p50": None, "p95": None, "max": None},
    "mean_iou": None,
    "class_changes": [],
    "other_class_changes": 0,
    "only_current": [],
    "only_candidate": [],
    "inference_s": {"current": None, "candidate": None},
    "most_different": [],
    "last_error": None,
    "since": _SINCE,
}
SHADOW_FOUND: Example = SHADOW_BEGUN | {
    "images": {"offered": 2, "compared": 2, "dropped": 0, "failed": 0},
    "instances": {
        "matched": 32,
        "class_changed": 0,
        "only_current": 0,
        "only_candidate": 0,
        "matched_share": 1.0,
    },
    "score_shift": {"mean": 0.0, "p50": 0.0, "p95": 0.0, "max": 0.0},
    "mean_iou": 1.0,
    "inference_s": {"current": 0.026327, "candidate": 0.025561},
}

FILE: Example = {
    "name": "config.yaml",
    "size": 5724,
    "sha256": "def086600cf1313537fb875711d921f2ff72c1b2f12b99ccd949f481c008ca2b",
}
UPLOADED: Example = {
    "model": "shapes",
    "version": "5",
    "digest": "905aad4c8a19842d0323dfb867166f0384942ead2222ed00cef0d8e3302acee3",
    "files": [FILE, {"name": "model_final.pth", "size": 4541599, "sha256": _SHA256}],
}
