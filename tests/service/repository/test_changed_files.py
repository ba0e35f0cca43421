"""A version that is loaded, and other files under its name since: never one taken for the other."""

import shutil
from pathlib import Path

import pytest
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from http_checks import answered_by, error_of, job_of, model_at, post, predict

pytestmark = pytest.mark.anyio


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    make_version(tmp_path, "1")
    running = serve(loader=FolderLoader(), repository=tmp_path)
    make_version(tmp_path, "2")
    return running


def replace(served: Served, label: str, number: int) -> None:
    shutil.rmtree(served.root / "shapes" / label)
    make_version(served.root, label, number=number)


async def test_a_loaded_version_with_other_files_by_now_is_not_promoted(served: Served) -> None:
    job_of(await post(served, "/models/shapes/versions/2/load"))
    replace(served, "2", 7)
    error = error_of(await post(served, "/reload", version="2"), 409)
    assert error.code == "version_changed"
    assert answered_by(await predict(served)) == ("1", 1)
    assert (await post(served, "/models/shapes/versions/2/unload")).status_code == 200
    assert job_of(await post(served, "/reload", version="2")).version == "2"
    assert answered_by(await predict(served)) == ("2", 7)


async def test_neither_is_the_current_one_reloaded_as_if_nothing_were(served: Served) -> None:
    replace(served, "1", 7)
    assert error_of(await post(served, "/reload", version="1"), 409).code == "version_changed"


async def test_a_folder_that_is_gone_is_told_and_what_is_loaded_goes_on(served: Served) -> None:
    shutil.move(served.root / "shapes", served.root.parent / "elsewhere")
    assert answered_by(await predict(served)) == ("1", 1)
    told = await model_at(served)
    assert [version.version for version in told.versions] == ["1"]
    assert (await served.client.get("/models")).status_code == 200
    for body in ({}, {"version": "2"}):
        response = await post(served, "/reload", **body)
        assert response.status_code in (404, 422, 503), response.text
    shutil.move(served.root.parent / "elsewhere", served.root / "shapes")


async def test_a_blind_version_is_taken_up_with_a_warning(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = served.loader
    load = type(loader).__call__

    def blind(self: FolderLoader, source: object) -> object:
        detector = load(self, source)  # type: ignore[arg-type]  # as the loader is called
        detector.answers = lambda answers: [found[:0] for found in answers]
        return detector

    monkeypatch.setattr(type(loader), "__call__", blind)
    job = job_of(await post(served, "/reload", version="2"))
    assert job.warning is not None
    assert "finds nothing in the stored pictures" in job.warning
