"""SIGKILL at each step of writing the record, and several processes that write: always a valid one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.repository.disk.record import change_record, read_record

# Kills itself before or after the nth call of a function of os, in the midst of a change.
_DYING = """
import os, signal, sys
from pathlib import Path
from service.repository.disk.record import change_record

folder, name, number, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
real, calls = getattr(os, name), 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(*arguments, **more):
    global calls
    calls += 1
    if calls == number and when == "before":
        die()
    result = real(*arguments, **more)
    if calls == number and when == "after":
        die()
    return result

def change(record):
    setattr(os, name, dying)
    return record.promoted("2")

change_record(folder, change)
"""

_COUNTING = """
import sys
from pathlib import Path
from service.repository.disk.record import change_record

for number in range(10):
    label = f"{sys.argv[2]}.{number}"
    change_record(Path(sys.argv[1]), lambda record: record.promoted(label))
"""


def run(script: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("function", "number", "when", "current"),
    [
        ("open", 1, "before", "1"),  # of the temporary file
        ("open", 1, "after", "1"),
        ("fsync", 1, "before", "1"),
        ("fsync", 1, "after", "1"),
        ("replace", 1, "before", "1"),
        ("replace", 1, "after", "2"),
        ("fsync", 2, "before", "2"),  # of the folder
        ("fsync", 2, "after", "2"),
    ],
)
def test_a_kill_at_any_step_leaves_the_old_record_or_the_new(
    tmp_path: Path, function: str, number: int, when: str, current: str
) -> None:
    change_record(tmp_path, lambda record: record.promoted("1"))
    _, errors = (process := run(_DYING, tmp_path, function, str(number), when)).communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    record = read_record(tmp_path)
    assert record.current == current
    # The lock went with its owner, and what it left goes with the next write.
    assert change_record(tmp_path, lambda record: record.promoted("3")).previous == current
    assert sorted(os.listdir(tmp_path)) == [".lock", "state.json"]


def test_no_change_of_several_processes_is_lost(tmp_path: Path) -> None:
    processes = [run(_COUNTING, tmp_path, str(number)) for number in range(4)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    done = [entry["version"] for entry in read_record(tmp_path).history]
    assert sorted(done) == sorted(f"{p}.{n}" for p in range(4) for n in range(10))
