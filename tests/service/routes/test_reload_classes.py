"""POST /reload of a version whose class ids mean something else than those of the current one."""

from pathlib import Path
from typing import Any

import pytest
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from http_checks import (
    answered_by,
    detector_of,
    error_of,
    job_of,
    model_at,
    post,
    predict,
    record_at,
    until,
    version_at,
)

pytestmark = pytest.mark.anyio

NAMES = ("disc", "square", "star", "ring")
SWAPPED = ("star", "square", "disc", "ring")


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    """Versions 1, 2 and 3 of shapes; 3 is current."""
    for label in "123":
        make_version(tmp_path, label)
    return serve(loader=FolderLoader(), repository=tmp_path)


async def reload(served: Served, **body: Any) -> Any:
    return await post(served, "/reload", **body)


async def require_untouched(served: Served, label: str = "3") -> None:
    """``label`` is current as ever, in memory and on disk."""
    assert answered_by(await predict(served)) == (label, int(label))
    assert record_at(served.root).current == label


async def test_classes_that_change_places_are_refused_with_what_has_changed(
    served: Served,
) -> None:
    make_version(served.root, "4", labels=("star, red", "square", "disc"))
    error = error_of(await reload(served, version="4"), 422)
    assert error.code == "classes_changed"
    assert error.details["changes"] == [
        {"id": 0, "was": "disc", "is": "star, red"},
        {"id": 2, "was": "star, red", "is": "disc"},
        {"id": 3, "was": "1", "is": None},
    ]
    assert error.details["serving_version"] == "3"
    await until(lambda: detector_of(served, 4).closed)
    await require_untouched(served)


async def test_classes_may_change_if_the_caller_says_so(served: Served) -> None:
    make_version(served.root, "4", labels=SWAPPED)
    assert job_of(await reload(served, version="4", allow_class_changes=True)).version == "4"
    assert [kind.name for kind in (await model_at(served)).classes] == [*SWAPPED]


async def test_classes_may_be_added_behind_the_others(serve: Serve, tmp_path: Path) -> None:
    make_version(tmp_path, "1", labels=NAMES)
    served = serve(loader=FolderLoader(), repository=tmp_path)
    make_version(tmp_path, "2", labels=(*NAMES, "cross"))
    assert job_of(await reload(served, version="2")).version == "2"


async def test_a_version_that_was_tried_beside_is_held_to_its_classes_when_it_takes_over(
    served: Served,
) -> None:
    make_version(served.root, "4", labels=SWAPPED)
    job_of(await post(served, "/models/shapes/versions/4/load"))
    error = error_of(await reload(served, version="4"), 422)
    assert error.code == "classes_changed"
    assert (await version_at(served, "4")).state == "ready"
    await require_untouched(served)
    assert job_of(await reload(served, version="4", allow_class_changes=True)).version == "4"


async def test_a_version_out_of_host_memory_is_held_to_its_classes_too(
    serve: Serve, tmp_path: Path
) -> None:
    make_version(tmp_path, "1", labels=NAMES)
    served = serve(loader=FolderLoader(), repository=tmp_path, keep_previous="memory")
    make_version(tmp_path, "2", labels=SWAPPED)
    job_of(await reload(served, version="2", allow_class_changes=True))
    assert error_of(await reload(served, version="1"), 422).code == "classes_changed"
    await require_untouched(served, "2")
    assert job_of(await post(served, "/models/shapes/rollback")).version == "1"
    assert len(served.loader.loaded) == 2  # it has been kept


async def test_a_version_out_of_host_memory_passes_the_gate_too(
    serve: Serve, tmp_path: Path
) -> None:
    make_version(tmp_path, "1")
    served = serve(loader=FolderLoader(), repository=tmp_path, keep_previous="memory")
    make_version(tmp_path, "2")
    job_of(await reload(served, version="2"))
    gate = {"dataset": "nope.json", "min_ap": 50}
    error = error_of(await reload(served, version="1", gate=gate), 422)
    assert error.code == "gate_impossible"
    await require_untouched(served, "2")
