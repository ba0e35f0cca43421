"""A start on a repository whose versions are damaged: the previous one serves, or a sentence ends it."""

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_repository import make_version
from fake_server import Serve
from reload_faults import FaultyLoader, answerer, model_of, serve_versions, state_of, swapped
from typer.testing import CliRunner

from service.cli.main import app
from service.repository.disk.manifest import Manifest
from service.repository.disk.record import read_record
from service.settings import Settings

pytestmark = pytest.mark.anyio


def _cut(version: Path) -> None:
    (version / "model_final.pth").write_bytes(b"")


def _alter(version: Path) -> None:
    (version / "model_final.pth").write_bytes(b"9")


def _unseal(version: Path) -> None:
    (version / "manifest.json").unlink()


def _spoil(version: Path) -> None:
    (version / "model_final.pth").write_bytes(b"?")
    Manifest.of(version).write(version)


@pytest.mark.parametrize("damage", [_cut, _alter, _unseal, _spoil, shutil.rmtree])
async def test_a_damaged_current_version_falls_back_to_the_previous_one(
    serve: Serve, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    await swapped(served, "2")
    served.close()
    damage(tmp_path / "shapes" / "2")
    again = serve(loader=FaultyLoader(), repository=tmp_path)
    assert await answerer(again) == (1, "1")
    told = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "current version 2 cannot be served" in told[0].getMessage()
    assert "going on with version 1" in told[0].getMessage()
    # What was chosen stays written down: the files may come back.
    assert read_record(tmp_path / "shapes").current == "2"
    if damage is not shutil.rmtree:
        state, reason = await state_of(again, "2")
        assert state == "failed"
        assert reason
    again.close()
    if damage is shutil.rmtree:
        make_version(tmp_path, "2")
    else:
        (tmp_path / "shapes" / "2" / "model_final.pth").write_text("2")
        Manifest.of(tmp_path / "shapes" / "2").write(tmp_path / "shapes" / "2")
    assert await answerer(serve(loader=FaultyLoader(), repository=tmp_path)) == (2, "2")


async def test_after_such_a_start_a_promotion_by_name_makes_it_last(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    await swapped(served, "2")
    served.close()
    _spoil(tmp_path / "shapes" / "2")
    again = serve(loader=FaultyLoader(), repository=tmp_path)
    response = await again.client.post("/models/shapes/rollback", json={})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "record_differs")
    response = await again.client.post("/reload", json={"version": "1"})
    assert (response.status_code, response.json()["version"]) == (200, "1")
    assert again.loader.labels == ["2", "1"]
    assert read_record(tmp_path / "shapes").current == "1"


async def test_an_alias_to_a_damaged_version_does_not_stop_the_start(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    put = await served.client.put("/models/shapes/aliases/candidate", json={"version": "2"})
    assert put.status_code == 200, put.text
    served.close()
    _spoil(tmp_path / "shapes" / "2")
    again = serve(loader=FaultyLoader(), repository=tmp_path)
    assert await answerer(again) == (1, "1")
    assert (await state_of(again, "2"))[0] == "failed"
    files = {"images": ("a.png", b"")}
    named = await again.client.post("/predict?version=candidate", files=files)
    assert (named.status_code, named.json()["error"]["code"]) == (409, "version_not_loaded")


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], tuple[int, str]]]:
    """``detserve serve`` on the repository, which cannot start: its exit code and what it says."""
    for field in Settings.model_fields:
        monkeypatch.delenv(f"DETSERVE_{field.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)  # no .env from around
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run() -> tuple[int, str]:
        arguments = ["serve", "--repository", str(tmp_path), "--device", "cpu", "--port", "0"]
        result = CliRunner().invoke(app, arguments)
        assert "Traceback" not in result.output
        return result.exit_code, " ".join(result.output.split())

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_start_without_any_sound_version_ends_with_a_sentence(
    tmp_path: Path, start: Callable[[], tuple[int, str]]
) -> None:
    make_version(tmp_path, "1")  # whose files the real loader does not take
    code, output = start()
    assert code == 1
    assert "error:" in output
    assert "config.yaml" in output


def test_a_start_whose_current_and_previous_version_are_damaged_tells_of_the_current_one(
    tmp_path: Path, start: Callable[[], tuple[int, str]], serve: Serve
) -> None:
    for label in "12":
        make_version(tmp_path, label)
    folder = tmp_path / "shapes"
    served = serve(loader=FaultyLoader(), repository=tmp_path)
    model = model_of(served)
    model.shelf.change(lambda record: record.promoted("1").promoted("2"))
    served.close()
    for label in "12":
        (folder / label / "model_final.pth").write_bytes(b"")
    code, output = start()
    assert code == 1
    assert (
        "error: shapes, version 2: model_final.pth is not the file that the manifest.json lists"
        in output
    )


def test_a_record_that_is_damaged_ends_the_start_with_what_to_do(
    tmp_path: Path, start: Callable[[], tuple[int, str]]
) -> None:
    make_version(tmp_path, "1")
    (tmp_path / "shapes" / "state.json").write_text('{"format": 1, "curr')
    code, output = start()
    assert code == 1
    assert "state.json of 'shapes' cannot be used" in output
    assert "Put it back from a backup" in output
