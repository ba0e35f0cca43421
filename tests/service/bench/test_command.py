"""A benchmark as the command line runs it: output, files, exit codes."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peer_server import PeerServer, Received, peer_server, reply

from service.bench import command
from service.bench.command import run
from service.bench.own_server import OwnServer
from service.bench.parsing import BenchOptions

Peer = Callable[..., PeerServer]

QUICK: dict[str, Any] = {"warmup_s": 0.0, "requests": 5, "sizes": "8x8", "concurrency": "1,2"}


def test_figures_go_to_the_output_and_to_files(
    peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = peer()
    json_file, svg = tmp_path / "out.json", tmp_path / "out.svg"
    options = BenchOptions(urls=[server.url], json=json_file, svg=svg, **QUICK)
    assert run(options) == 0
    output = capsys.readouterr().out
    assert "1 client" in output
    assert "2 clients" in output
    document = json.loads(json_file.read_text())
    assert [level["requests"]["ok"] for level in document["targets"][0]["levels"]] == [5, 5]
    assert svg.read_text().startswith("<svg ")


def test_two_servers_are_compared(
    peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.json"
    options = BenchOptions(
        urls=[peer().url, peer().url], names=["ours", "theirs"], json=file, **QUICK
    )
    assert run(options) == 0
    assert "theirs / ours" in capsys.readouterr().out
    document = json.loads(file.read_text())
    assert [ratio["rounds"] for ratio in document["comparison"]] == [3, 3]


def test_a_server_of_our_own_is_started_with_the_model_and_its_samples(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, started = peer(), list[list[str]]()

    @contextmanager
    def own(arguments: list[str]) -> Iterator[OwnServer]:
        started.append(arguments)
        yield OwnServer(server.url, 1)
        started.append(["ended"])

    monkeypatch.setattr(command, "own_server", own)
    quick = QUICK | {"sizes": None}
    assert run(BenchOptions(server_options=["device=cpu"], **quick)) == 0
    assert started == [["--device=cpu"], ["ended"]]
    assert b'filename="shapes-1.jpg"' in server.images[0].body


def message(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"urls": ["http://127.0.0.1:1"], "server_options": ["a=1"]}, "--server-option"),
        ({"urls": ["nowhere"]}, "nowhere is not the address of a server"),
        ({"urls": ["http://a", "http://b"], "zoo": "m"}, "3 servers are too many"),
        ({"json": Path("/no/such/folder/x.json")}, "--json: there is no folder"),
        ({"svg": Path("/no/such/folder/x.svg")}, "--svg: there is no folder"),
        ({"images": [Path("x.jpg")]}, "--images and --sizes"),
        ({"concurrency": "0"}, "--concurrency"),
    ],
)
def test_wrong_usage_is_told_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.setattr(command, "own_server", None)
    assert run(BenchOptions(**(QUICK | given))) == 2
    error = message(capsys)
    assert error.startswith("error: ")
    assert words in error


def test_a_missing_image_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    quick = QUICK | {"sizes": None, "images": [Path("no-such.jpg")]}
    assert run(BenchOptions(urls=["http://127.0.0.1:1"], **quick)) == 1
    assert "no-such.jpg cannot be read: No such file" in message(capsys)


def test_a_server_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with peer_server() as server:
        url = server.url
    assert run(BenchOptions(urls=[url], **QUICK)) == 1
    assert message(capsys) == f"error: {url} cannot be reached: Connection refused."


def test_if_all_failed_the_figures_and_the_first_error_are_told(
    peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    def respond(request: Received) -> bytes:
        if request.method != "POST":
            return reply(404)
        return reply(200) if len(server.images) == 1 else reply(500, b"out of disk")

    server = peer(respond)
    assert run(BenchOptions(urls=[server.url], **QUICK)) == 1
    shown = capsys.readouterr()
    assert "2 clients" in shown.out
    assert "No request was answered well. 500: out of disk" in " ".join(shown.err.split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_there_is(
    peer: Peer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    def respond(request: Received) -> bytes:
        if len(server.images) == 10:
            os.kill(os.getpid(), number)
        return reply(200 if request.method == "POST" else 404)

    server = peer(respond)
    file = tmp_path / "out.json"
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    quick = QUICK | {"requests": 10**9}
    assert run(BenchOptions(urls=[server.url], json=file, **quick)) == 130
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    output = capsys.readouterr().out
    assert "1 client" in output
    assert "2 clients" not in output
    assert "interrupted" in output
    assert json.loads(file.read_text())["interrupted"] is True
