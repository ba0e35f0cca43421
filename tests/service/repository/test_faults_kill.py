"""SIGKILL at each phase of a reload: a restart finds a valid current version, and the right one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import killed_servers
import pytest
from coco_files import DatasetFiles
from fake_repository import make_version
from fake_server import Serve
from killed_servers import POINTS
from reload_faults import FaultyLoader, answerer, model_of, state_of, swapped

from service.repository.disk.record import change_record, read_record

pytestmark = pytest.mark.anyio

SUPPORT = Path(killed_servers.__file__).parent


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int]]:
    """By the point: the repository of the server that died there, and the signal that it died of."""
    parent = tmp_path_factory.mktemp("killed")
    for name in POINTS:
        root = parent / name
        root.mkdir()
        for label in "0123":
            make_version(root, label)
        for label in "01":
            change_record(root / "shapes", lambda record, label=label: record.promoted(label))
        DatasetFiles(root).load()
    paths = [str(parent / name) for name in POINTS]
    done = subprocess.run(
        [sys.executable, killed_servers.__file__, *paths],
        capture_output=True,
        text=True,
        cwd=SUPPORT.parents[1],
        env=os.environ | {"PYTHONPATH": f"{SUPPORT.parents[1]}{os.pathsep}{SUPPORT}"},
    )
    assert done.returncode == 0, done.stderr
    signals = dict(line.split() for line in done.stdout.splitlines())
    assert set(signals) == set(POINTS), done.stderr
    return {name: (parent / name, int(signals[name])) for name in POINTS}


@pytest.mark.parametrize("name", POINTS)
async def test_a_killed_server_comes_back_with_a_valid_current_version(
    killed: dict[str, tuple[Path, int]], serve: Serve, name: str
) -> None:
    (root, died_of), current = killed[name], POINTS[name].current
    assert died_of == signal.SIGKILL
    folder = root / "shapes"
    assert read_record(folder).current == current

    served = serve(loader=FaultyLoader(), repository=root)
    assert await answerer(served) == (int(current), current)
    assert served.loader.labels == [current], "nothing else was to be tried"
    assert (await state_of(served, current))[0] == "ready"
    assert dict(model_of(served).shelf.record().aliases) == {}

    # What the dead server has left behind is in nobody's way, and goes with the next change.
    await swapped(served, "3")
    rollback = await served.client.post("/models/shapes/rollback", json={})
    assert rollback.json()["version"] == current
    served.close()
    assert sorted(os.listdir(folder)) == [
        ".lock", "0", "1", "2", "3", "state.json", "traffic.json",
    ]  # fmt: skip


async def test_a_server_that_was_killed_before_its_first_record_begins_anew(
    serve: Serve, tmp_path: Path
) -> None:
    """What a kill in the midst of the very first write leaves: a part of a file, and a lock."""
    make_version(tmp_path, "1")
    (tmp_path / "shapes" / ".state.json.new").write_text('{"format": 1, "cur')
    (tmp_path / "shapes" / ".lock").touch()
    served = serve(loader=FaultyLoader(), repository=tmp_path)
    assert await answerer(served) == (1, "1")
    assert read_record(tmp_path / "shapes").current == "1"
    assert sorted(os.listdir(tmp_path / "shapes")) == [".lock", "1", "state.json"]
