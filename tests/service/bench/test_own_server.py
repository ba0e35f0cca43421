"""A server of our own: started, named and ended."""

import os
import sys
from pathlib import Path

import pytest

from service.bench import own_server as module
from service.bench.errors import BenchError
from service.bench.own_server import own_server


def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    """Have ``source`` run as the server; its arguments are in ``sys.argv``."""
    script = tmp_path / "stand_in.sh"
    (tmp_path / "stand_in.py").write_text(source)
    # It is called as ``python -m service.cli serve ...``.
    script.write_text(
        f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{tmp_path / "stand_in.py"}" "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(script))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_runs_until_the_end_of_the_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = """
import sys, signal
print("a warning\\nServing at http://127.0.0.1:4321 (API ...)", sys.argv[1:], file=sys.stderr, flush=True)
signal.pause()
"""
    stand_in(monkeypatch, tmp_path, source)
    with own_server(["--device", "cpu"]) as server:
        assert server.url == "http://127.0.0.1:4321"
        assert is_running(server.pid)
    assert not is_running(server.pid)


def test_what_it_says_does_not_block_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = """
import sys, signal
sys.stderr.write("Serving at http://127.0.0.1:4321\\n" + "x" * 1_000_000 + "\\n")
open(sys.argv[-1], "w").write("done")
signal.pause()
"""
    stand_in(monkeypatch, tmp_path, source)
    done = tmp_path / "done"
    os.mkfifo(done)
    with own_server([str(done)]):
        assert done.read_text() == "done"  # waits for the writer


def test_if_it_does_not_start_its_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = "import sys; sys.exit('error: there is no\\nsuch file.')"
    stand_in(monkeypatch, tmp_path, source)
    with pytest.raises(BenchError) as caught, own_server([]):
        pass
    assert str(caught.value) == "The server did not start. there is no such file."


def test_one_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = """
import sys, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("Serving at http://127.0.0.1:4321", file=sys.stderr, flush=True)
while True: signal.pause()
"""
    stand_in(monkeypatch, tmp_path, source)
    monkeypatch.setattr(module, "STOP_S", 0.1)
    with own_server([]) as server:
        pass
    assert not is_running(server.pid)
