"""The allocator keeps large buffers, unless the operator or the platform says otherwise."""

import os
import subprocess
import sys

import pytest

from service.allocator import keep_large_buffers

# A thread touches a large buffer again and again; the page faults say whether it is a new one.
FAULTS = """
import resource, sys, threading
import numpy as np
from service.allocator import keep_large_buffers

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(3):
        np.ones(80 << 20, dtype=np.uint8)
    before = faults()
    for _ in range(10):
        np.ones(80 << 20, dtype=np.uint8)
    print(faults() - before)

if sys.argv[1] == "tuned":
    assert keep_large_buffers()
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""

on_glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not os.confstr("CS_GNU_LIBC_VERSION"),
    reason="the allocator of glibc",
)


def page_faults(how: str) -> int:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))
    }
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return int(done.stdout)


@on_glibc
def test_buffers_of_other_threads_are_kept_once_it_is_tuned() -> None:
    pages = 10 * (80 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert page_faults("tuned") < pages / 1000
    assert page_faults("plain") > page_faults("tuned")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_ARENA_MAX", "2"),
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.cpu.x86_ibt=off:glibc.malloc.arena_max=2"),
    ],
)
def test_what_the_environment_says_stands(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not keep_large_buffers()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr("service.allocator.ctypes.CDLL", lambda _: object())
    assert not keep_large_buffers()
