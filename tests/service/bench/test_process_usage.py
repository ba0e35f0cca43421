"""CPU time and memory of processes, from /proc."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.bench.process_usage import process_usage

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux has /proc")

PARENT = """
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", "x = bytearray(50_000_000); print('up', flush=True); input()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print("up", flush=True)
input()
child.communicate(b"\\n")
"""


def test_our_own_process_has_used_something() -> None:
    found = process_usage(os.getpid())
    assert found is not None
    own = os.times()
    # Child processes of other tests count too, and /proc counts in hundredths of a second.
    assert 0 < found.cpu_s <= own.user + own.system + own.children_user + own.children_system + 0.1
    assert 1e6 < found.rss_bytes <= found.peak_bytes


def test_descendants_count_too() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"up\n"
        found = process_usage(process.pid)
        process.stdin.write(b"\n")
    assert found is not None
    assert found.rss_bytes > 50_000_000


def test_a_process_that_does_not_exist_has_used_nothing_that_is_known() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert process_usage(ended.pid) is None
