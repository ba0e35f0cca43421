"""SIGKILL at each step of adding a version: it is complete, or not there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from version_files import repository, write_files

from service.repository.disk.adding import staging

# Adds a version without PyTorch, and kills itself at the nth call of a function of os.
_DYING = """
import os, signal, sys, types
from pathlib import Path
from service.repository.disk import adding
from service.repository.disk.folder import RepositoryFolder

root, function, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
contents = types.ModuleType("service.repository.disk.contents")
contents.check_contents = lambda version: None
sys.modules["service.repository.disk.contents"] = contents
real, calls = getattr(os, function), 0

def dying(*arguments, **more):
    global calls
    calls += 1
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **more)

setattr(os, function, dying)
adding.add_version(
    RepositoryFolder(root).model("shapes"), "2", weights=root / "given.pth", labels=root / "given.txt"
)
"""


@pytest.mark.parametrize(
    ("function", "number", "added"),
    [
        ("fsync", 1, False),  # of the files
        ("fsync", 3, False),  # of their folder
        ("fsync", 4, False),  # of the manifest
        ("replace", 1, False),
        ("rename", 1, False),
        ("fsync", 6, True),  # of the model's folder
    ],
)
def test_a_kill_at_any_step_leaves_no_version_or_a_complete_one(
    tmp_path: Path, function: str, number: int, added: bool
) -> None:
    model = repository(tmp_path, "1")
    write_files(tmp_path, {"given.pth": b"weights", "given.txt": b"disc\n"})
    process = subprocess.run(
        [sys.executable, "-c", _DYING, str(tmp_path), function, str(number)],
        check=False,
        capture_output=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert [version.label for version in model.versions()] == (["1", "2"] if added else ["1"])
    for version in model.versions():
        assert version.complete
        version.manifest().verify(version.path)
    with staging(model):  # as the next to be added begins
        left = [name for name in os.listdir(model.path) if name.startswith(".staging-")]
    assert len(left) == 1
