"""``detserve download``: a whole, checked file or none, and one sentence when it cannot be had."""

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models import zoo
from service.cli import download
from service.cli.download import DownloadError, fetch
from service.cli.main import app

CONTENT = bytes(range(256)) * 5000
MD5 = hashlib.md5(CONTENT).hexdigest()
FILE = f"model_final_{MD5[:6]}.pkl"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/x.pkl")
            self.end_headers()
            return
        if self.path not in {f"/{FILE}", "/short", "/endless"}:
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/short" else CONTENT)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A host that is reached without https."""
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let the zoo's models have their file at ``url``."""
    get = zoo.get
    monkeypatch.setattr(zoo, "get", lambda name: dataclasses.replace(get(name), url=url))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["download", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_the_file_arrives_whole(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_to(monkeypatch, f"{address}/{FILE}")
    out = tmp_path / "new" / "folder"
    code, output = run("mask_rcnn_R_50_FPN_3x", "--out", str(out))
    assert code == 0, output
    assert [path.name for path in out.iterdir()] == [FILE]
    assert (out / FILE).read_bytes() == CONTENT
    assert (out / FILE).stat().st_mode & 0o777 == 0o644


def test_a_file_that_is_there_is_not_fetched_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_to(monkeypatch, f"https://127.0.0.1:1/{FILE}")
    (tmp_path / FILE).write_bytes(CONTENT)
    code, output = run("mask_rcnn_R_50_FPN_3x", "--out", str(tmp_path))
    assert code == 0
    assert "intact" in output.replace("\n", " ")


def test_without_a_network_it_says_so_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    point_to(monkeypatch, f"https://127.0.0.1:1/{FILE}")
    code, output = run("mask_rcnn_R_50_FPN_3x", "--out", str(tmp_path))
    assert code == 1
    assert "cannot be reached" in output
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "md5_prefix", "message"),
    [
        (f"/{FILE}", "ffffff", "is damaged"),
        ("/short", MD5, "stopped sending after 1000"),
        ("/nothing", MD5, "answers 404"),
        ("/moved", MD5, "is not an https address"),
    ],
)
def test_a_failure_leaves_no_file(
    address: str, tmp_path: Path, path: str, md5_prefix: str, message: str
) -> None:
    target = tmp_path / "x.pkl"
    target.write_bytes(b"old")
    with pytest.raises(DownloadError, match=message):
        fetch(address + path, target, md5_prefix=md5_prefix)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]
    assert target.read_bytes() == b"old"


def test_a_host_may_leave_the_length_out(address: str, tmp_path: Path) -> None:
    fetch(f"{address}/endless", tmp_path / "x.pkl", md5_prefix=MD5[:6])
    assert (tmp_path / "x.pkl").read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["http://example.org/x.pkl", "file:///etc/hostname"])
def test_nothing_but_https_is_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="is not an https address"):
        fetch(url, tmp_path / "x.pkl", md5_prefix="")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, output = run("mask_rcnn_R_50_FPN_3x", "--out", str(tmp_path / "file" / "below"))
    assert code == 1
    assert "cannot be written" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "name a model"), (["mask_rcnn_R_50_FPN_9x"], "Did you mean")],
)
def test_a_wrong_name_is_the_callers_fault(arguments: list[str], message: str) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert message in output


def test_the_list_has_every_model_with_its_figures() -> None:
    code, output = run("--list")
    assert code == 0
    rows = {words[0]: words[1:] for line in output.splitlines() if (words := line.split())}
    assert set(zoo.names()) <= set(rows)
    assert rows["COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"] == ["41.0", "37.2"]
