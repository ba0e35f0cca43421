"""Several models side by side, and those that come while the server runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from http_checks import answered_by, error_of, job_of, post, predict, record_at

from service.repository.disk.manifest import Manifest

pytestmark = pytest.mark.anyio


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    """Versions 1, 2 and 3 of shapes; 3 is current."""
    for label in "123":
        make_version(tmp_path, label)
    return serve(loader=FolderLoader(), repository=tmp_path)


async def reload(served: Served, **body: Any) -> Any:
    return await post(served, "/reload", **body)


async def test_models_change_independently_of_each_other(serve: Serve, tmp_path: Path) -> None:
    make_version(tmp_path, "1", model="shapes")
    make_version(tmp_path, "5", model="vehicles")
    served = serve(loader=FolderLoader(), repository=tmp_path)
    make_version(tmp_path, "2", model="shapes")
    make_version(tmp_path, "6", model="vehicles")
    job = job_of(await reload(served, model="vehicles", version="6"))
    assert (job.model, job.previous_version, job.version) == ("vehicles", "5", "6")
    assert answered_by(await predict(served, model="vehicles")) == ("6", 6)
    assert answered_by(await predict(served)) == ("1", 1)
    assert record_at(tmp_path, "vehicles").current == "6"
    assert record_at(tmp_path, "shapes").current == "1"
    names = [model["name"] for model in (await served.client.get("/models")).json()["models"]]
    assert names == ["shapes", "vehicles"]
    assert error_of(await reload(served, model="shapes", version="6"), 404).code == (
        "unknown_version"
    )
    assert error_of(await reload(served, model="boats"), 404).code == "unknown_model"


async def test_a_model_that_has_come_since_the_start_is_served(served: Served) -> None:
    make_version(served.root, "5", model="vehicles")
    job = job_of(await reload(served, model="vehicles"))
    assert (job.previous_version, job.version) == (None, "5")
    assert answered_by(await predict(served, model="vehicles")) == ("5", 5)
    assert record_at(served.root, "vehicles").current == "5"


async def test_a_model_that_had_nothing_to_serve_at_the_start_gets_its_first_version(
    serve: Serve, tmp_path: Path
) -> None:
    make_version(tmp_path, "1")
    folder = make_version(tmp_path, "5", model="vehicles", sealed=False)
    served = serve(loader=FolderLoader(), repository=tmp_path)
    assert error_of(await reload(served, model="vehicles", version="5"), 422).code == (
        "version_incomplete"
    )
    Manifest.of(folder).write(folder)
    assert job_of(await reload(served, model="vehicles", version="5")).version == "5"
    assert answered_by(await predict(served, model="vehicles")) == ("5", 5)


async def test_a_new_model_whose_first_version_was_refused_can_be_tried_again(
    served: Served,
) -> None:
    broken = make_version(served.root, "5", model="vehicles", number=5, sealed=False)
    (broken / "model_final.pth").write_text("no checkpoint")
    Manifest.of(broken).write(broken)
    for _ in range(2):
        error = error_of(await reload(served, model="vehicles", version="5"), 422)
        assert (error.code, error.details["serving_version"]) == ("model_refused", None)
    make_version(served.root, "6", model="vehicles")
    assert job_of(await reload(served, model="vehicles", version="6")).version == "6"
    assert json.loads((served.root / "vehicles" / "state.json").read_text())["current"] == "6"
