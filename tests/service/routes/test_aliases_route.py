"""PUT and DELETE /models/{m}/aliases/{a}: other names of versions, which keep them loaded."""

from pathlib import Path
from typing import Any

import httpx
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
    version_at,
)

pytestmark = pytest.mark.anyio

ALIASES = "/models/shapes/aliases"


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    """Versions 1, 2 and 3 of shapes; 3 is current, 4 is still being copied."""
    for label in "123":
        make_version(tmp_path, label)
    make_version(tmp_path, "4", sealed=False)
    return serve(loader=FolderLoader(), repository=tmp_path)


async def alias(served: Served, name: str, version: Any, **body: Any) -> httpx.Response:
    return await served.client.put(f"{ALIASES}/{name}", json={"version": version} | body)


@pytest.mark.parametrize("version", ["1", 1])
async def test_an_alias_loads_its_version_and_is_recorded(served: Served, version: Any) -> None:
    job = job_of(await alias(served, "candidate", version))
    assert (job.action, job.outcome, job.version) == ("load", "loaded", "1")
    assert answered_by(await predict(served, version="candidate")) == ("1", 1)
    assert record_at(served.root).aliases == {"candidate": "1"}
    assert (await model_at(served)).aliases == {"candidate": "1"}


async def test_an_alias_moves_to_another_version(served: Served) -> None:
    job_of(await alias(served, "stable", "1"))
    job_of(await alias(served, "stable", "3"))  # which is loaded
    assert answered_by(await predict(served, version="stable")) == ("3", 3)
    assert record_at(served.root).aliases == {"stable": "3"}
    assert (await version_at(served, "1")).aliases == []


async def test_a_version_with_an_alias_stays_loaded_when_another_one_takes_over(
    served: Served,
) -> None:
    job_of(await alias(served, "stable", "current"))
    assert record_at(served.root).aliases == {"stable": "3"}
    job = job_of(await post(served, "/reload", version="1"))
    assert (job.version, job.freed_bytes) == ("1", None)
    assert answered_by(await predict(served, version="stable")) == ("3", 3)
    assert detector_of(served, 3).closed == 0


async def test_an_alias_of_a_version_that_cannot_be_loaded_is_not_recorded(served: Served) -> None:
    (served.root / "shapes" / "1" / "model_final.pth").write_text("7")
    assert error_of(await alias(served, "stable", "1"), 422).code == "file_changed"
    assert error_of(await alias(served, "stable", "7"), 404).code == "unknown_version"
    assert error_of(await alias(served, "stable", "4"), 422).code == "version_incomplete"
    assert job_of(await alias(served, "stable", "2", dry_run=True)).outcome == "dry_run"
    assert record_at(served.root).aliases == {}
    assert error_of(await predict(served, version="stable"), 404).code == "unknown_version"


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("2", 409, "alias_is_a_version"),
        ("latest", 422, "invalid_name"),
        ("current", 422, "invalid_name"),
        (".x", 422, "invalid_name"),
        ("x" * 65, 422, "invalid_name"),
    ],
)
async def test_what_cannot_be_an_alias_is_refused(
    served: Served, name: str, status: int, code: str
) -> None:
    assert error_of(await alias(served, name, "1"), status).code == code
    assert record_at(served.root).aliases == {}
    assert len(served.loader.sources) == 1


async def test_an_alias_needs_a_version(served: Served) -> None:
    error = error_of(await served.client.put(f"{ALIASES}/stable", json={}), 422)
    assert (error.code, error.details) == ("invalid_option", {"option": "version"})


async def test_an_alias_is_removed_and_its_version_stays_loaded(served: Served) -> None:
    job_of(await alias(served, "stable", "1"))
    response = await served.client.delete(f"{ALIASES}/stable")
    assert (response.status_code, response.content) == (204, b"")
    assert record_at(served.root).aliases == {}
    assert error_of(await predict(served, version="stable"), 404).code == "unknown_version"
    assert answered_by(await predict(served, version="1")) == ("1", 1)
    again = await served.client.delete(f"{ALIASES}/stable")
    assert error_of(again, 404).code == "unknown_alias"


async def test_without_a_repository_an_alias_lives_as_long_as_the_server(serve: Serve) -> None:
    served = serve()
    job_of(await alias(served, "stable", "1"))
    job_of(await post(served, "/reload"))
    assert answered_by(await predict(served, version="stable")) == ("1", 1)
    assert answered_by(await predict(served)) == ("2", 2)
