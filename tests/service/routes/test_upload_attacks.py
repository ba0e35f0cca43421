"""Attacks on the uploads: no path leads out, no log line is forged, no code runs, no bomb goes off."""

import asyncio
import io
import logging
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from upload_server import BINARY, CONFIG, LABELS, WEIGHTS, UploadServer

from service.logging import TextFormatter
from service.schemas.answers import ErrorAnswer

pytestmark = pytest.mark.anyio
Make = Callable[..., UploadServer]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda **options: UploadServer(tmp_path, **options)


def error_of(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return ErrorAnswer.model_validate(response.json()).error


async def talk(port: int, *parts: bytes, ends: bool = False) -> bytes:
    """Send the parts, leave then if that ``ends`` it, and read the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    if ends:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def head(*lines: str, path: str = "/models/shapes/versions/2/files/labels.txt") -> bytes:
    common = ["Host: localhost", f"Content-Type: {BINARY['Content-Type']}", "Connection: close"]
    return "\r\n".join([f"PUT {path} HTTP/1.1", *common, *lines, "", ""]).encode()


async def put_as_is(server: UploadServer, path: str) -> tuple[int, Any]:
    """Upload to a path that no client puts in order; the status and the error."""
    async with server.listening() as port:
        answer = await talk(port, head("Content-Length: 4", path=path) + b"evil")
    first, _, body = answer.partition(b"\r\n\r\n")
    return int(first.split()[1]), ErrorAnswer.model_validate_json(body).error


# --- names ----------------------------------------------------------------------------------------

FILE_NAMES = [
    "../config.yaml",
    "%2e%2e/config.yaml",
    "..%2fconfig.yaml",
    "..%2f..%2f..%2fetc%2fcron.d%2fx",
    "..%5cconfig.yaml",
    "%252e%252e/config.yaml",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "C:%5cconfig.yaml",
    "golden/../config.yaml",
    "golden/../../config.yaml",
    "golden/%2e%2e%2fconfig.yaml",
    "golden/x/y.jpg",
    "golden/.jpg",
    "golden/.hidden.jpg",
    "golden/x.jpg%00.sh",
    "config.yaml%00",
    "config.yaml%20",
    "%0aconfig.yaml",
    "config%0d%0a.yaml",
    "config.yaml/",
    "CONFIG.YAML",
    "./config.yaml",
    "manifest.json",
    ".part",
    "state.json",
    "model_final.pth.zip",
    "model_final.pt",
    "model.tar.gz",
    "x.py",
    "golden/" + "x" * 200 + ".jpg",
    "x" * 20_000,
    "%ff%fe",
    "%f0%9f%92%a3",
    "",
]


@pytest.mark.parametrize("name", FILE_NAMES)
async def test_no_other_file_name_is_taken(make: Make, tmp_path: Path, name: str) -> None:
    server = make()
    status, error = await put_as_is(server, f"/models/shapes/versions/2/files/{name}")
    # A newline is no part of any path here, so that one finds no route.
    wanted = (404, "not_found") if "%0a" in name else (422, "invalid_file_name")
    assert (status, error.code) == wanted
    assert len(error.message) < 300
    assert [path for path in tmp_path.rglob("*") if path != server.repository] == []


NAMES = [
    "..",
    "%2e%2e",
    ".",
    ".hidden",
    ".upload-1",
    "..%5c..",
    "a%00b",
    "a%0ab",
    "a%0d%0aX-Evil:%201",
    "a%20b",
    "-rf",
    "~root",
    "$(id)",
    "x" * 65,
    "x" * 10_000,
    "%c3%a4",
    "%ff",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["model", "version"])
async def test_no_other_name_of_a_model_or_version_is_taken(
    make: Make, tmp_path: Path, kind: str, name: str
) -> None:
    server = make()
    names = {"model": "shapes", "version": "2"} | {kind: name}
    path = "/models/{model}/versions/{version}/files/config.yaml".format(**names)
    status, error = await put_as_is(server, path)
    assert (status, error.code) == (422, "invalid_name")
    assert len(error.message) < 500
    left = {path.name for path in tmp_path.rglob("*")}
    assert left <= {"repository", "shapes"}


@pytest.mark.parametrize("name", ["a%2fb", "%2fetc", "..%2f..", "a/b"])
async def test_a_slash_in_a_name_finds_no_route(make: Make, tmp_path: Path, name: str) -> None:
    server = make()
    status, _ = await put_as_is(server, f"/models/{name}/versions/2/files/config.yaml")
    assert status == 404
    assert {path.name for path in tmp_path.rglob("*")} == {"repository"}


@pytest.mark.parametrize("reserved", ["latest", "current", "previous"])
async def test_reserved_words_are_no_versions(make: Make, reserved: str) -> None:
    assert error_of(await make().put("labels.txt", version=reserved), 422).code == "invalid_name"


async def test_a_name_forges_no_log_line(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    forged = "x%0d%0a12:00:00%20INFO%20admin%20action=promote%1b[2K%e2%80%a8"
    await make().put("config.yaml", b"x", model=forged, version=forged)
    lines = [TextFormatter().format(record) for record in caplog.records]
    assert any("action=upload" in line for line in lines)
    for line in lines:
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line


async def test_a_model_folder_that_leads_out_of_the_root_is_403(make: Make, tmp_path: Path) -> None:
    server = make()
    (tmp_path / "outside").mkdir()
    (server.repository / "shapes").symlink_to(tmp_path / "outside")
    error = error_of(await server.put("config.yaml", b"x"), 403)
    assert error.code == "path_outside_root"
    assert not any((tmp_path / "outside").iterdir())


async def test_a_staging_folder_that_is_a_symlink_is_not_followed(
    make: Make, tmp_path: Path
) -> None:
    server = make()
    (tmp_path / "outside").mkdir()
    (server.repository / "shapes").mkdir()
    (server.repository / "shapes" / ".upload-2").symlink_to(tmp_path / "outside")
    error_of(await server.put("config.yaml", b"x"), 507)
    assert not any((tmp_path / "outside").iterdir())


# --- who asks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
@pytest.mark.parametrize("options", [{}, {"admin_open": True}, {"admin_token": "s3cret"}])
async def test_a_web_page_uploads_nothing(
    make: Make, headers: dict[str, str], options: dict[str, Any]
) -> None:
    server = make(**options)
    given = dict(headers)
    if "admin_token" in options and "Host" not in headers:
        given["Authorization"] = "Bearer s3cret"
    status = 401 if "admin_token" in options and "Host" in headers else 403
    error_of(await server.put("labels.txt", b"x", headers=given), status)
    assert not any(server.repository.iterdir())


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, ""),
        ({"Authorization": "Bearer wrong"}, ""),
        ({"Authorization": "s3cret"}, ""),
        ({"X-Admin-Token": "s3cre"}, ""),
        ({"Cookie": "token=s3cret"}, ""),
        ({}, "?token=s3cret"),
        ({}, "?access_token=s3cret&authorization=Bearer%20s3cret"),
    ],
)
async def test_a_wrong_token_or_one_elsewhere_is_401(
    make: Make, headers: dict[str, str], query: str
) -> None:
    server = make(admin_token="s3cret")
    error_of(await server.put(f"labels.txt{query}", b"x", headers=headers), 401)
    assert not any(server.repository.iterdir())


# --- what is in the weights -----------------------------------------------------------------------


class Gadget:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def gadgets(marker: Path) -> dict[str, Gadget]:
    """Calls that would all make ``marker``."""
    touch = f"touch {marker}"
    code = f"__import__('os').system({touch!r})"
    return {
        "os.system": Gadget(os.system, touch),
        "eval": Gadget(eval, code),
        "subprocess": Gadget(subprocess.Popen, ["touch", str(marker)]),
        "getattr": Gadget(getattr, Gadget(__import__, "os"), "system"),
        "getattr chain": Gadget(map, Gadget(getattr, Gadget(__import__, "os"), "system"), [touch]),
        "open": Gadget(open, str(marker), "w"),
        "path": Gadget(Path.touch, marker),
        "torch.load": Gadget(torch.load, str(marker)),
    }


def as_zip(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def as_legacy(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def in_a_storage(content: Any) -> bytes:
    """As PyTorch's zip, with ``content`` in the place of a storage's type."""

    class Stored:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, Stored):
                return ("storage", content, "0", "cpu", 4)
            return None

    data = io.BytesIO()
    Pickler(data, protocol=2).dump({"model": {"weight": Stored()}})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data.getvalue())
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


KINDS: dict[str, Callable[[Any], bytes]] = {
    "pickle": lambda content: pickle.dumps({"model": {"weight": content}}),
    "pickle alone": lambda content: pickle.dumps(content),
    "oldest pickle": lambda content: pickle.dumps({"model": content}, protocol=0),
    "torch zip": lambda content: as_zip({"model": {"weight": torch.ones(2), "x": content}}),
    "torch legacy": lambda content: as_legacy({"model": {"weight": torch.ones(2), "x": content}}),
    "in a storage": in_a_storage,
}


async def refused(server: UploadServer, name: str, content: bytes) -> Any:
    """The error for these weights beside a good config; nothing of them may be left."""
    for other, good in (("config.yaml", CONFIG), ("labels.txt", LABELS), (name, content)):
        assert (await server.put(other, good)).status_code == 201
    error = error_of(await server.complete(), 422)
    assert server.files() == set()
    return error


@pytest.mark.parametrize("name", ["model_final.pth", "model_final.pkl", "model_final.safetensors"])
@pytest.mark.parametrize("kind", KINDS)
async def test_no_gadget_runs_and_none_is_kept(
    make: Make, tmp_path: Path, kind: str, name: str
) -> None:
    server = make()
    marker = tmp_path / "marker"
    for gadget in gadgets(marker).values():
        error = await refused(server, name, KINDS[kind](gadget))
        assert error.code == "model_refused"
        assert not marker.exists()


def test_the_gadgets_would_work(tmp_path: Path) -> None:
    for name in ("os.system", "path"):
        marker = tmp_path / name
        pickle.loads(pickle.dumps(gadgets(marker)[name]))
        assert marker.exists()


async def test_the_refusal_names_what_the_file_refers_to(make: Make, tmp_path: Path) -> None:
    content = KINDS["torch zip"](gadgets(tmp_path / "marker")["os.system"])
    error = await refused(make(), "model_final.pth", content)
    assert "system" in error.message


async def test_a_zip_bomb_is_refused(make: Make) -> None:
    source = io.BytesIO(as_zip({"model": {"weight": torch.zeros(16 * 2**20)}}))
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(source) as plain,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    assert len(bomb.getvalue()) < 100_000
    error = await refused(make(), "model_final.pth", bomb.getvalue())
    assert error.code == "model_refused"


@pytest.mark.parametrize("cut", [0, 1, 100, len(WEIGHTS) // 2, len(WEIGHTS) - 1])
async def test_weights_that_were_cut_off_are_refused(make: Make, cut: int) -> None:
    await _refused_or_empty(make(), WEIGHTS[:cut])


async def _refused_or_empty(server: UploadServer, content: bytes) -> None:
    await server.put("config.yaml", CONFIG)
    await server.put("model_final.pth", content)
    error = error_of(await server.complete(), 422)
    assert error.code == ("model_refused" if content else "empty_file")


# --- what is in the YAML --------------------------------------------------------------------------

TAGS = [
    "!!python/object/apply:os.system ['touch {marker}']",
    "!!python/object/new:os.system ['touch {marker}']",
    "!!python/object/apply:subprocess.check_output [[touch, '{marker}']]",
    "!!python/object/apply:eval [\"open('{marker}', 'w')\"]",
    "!!python/name:os.system",
    "!!python/module:os",
]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("name", ["config.yaml", "model.yaml"])
async def test_no_yaml_tag_runs(make: Make, tmp_path: Path, name: str, tag: str) -> None:
    server = make()
    marker = tmp_path / "marker"
    text = "x: " + tag.format(marker=marker)
    files = {"config.yaml": CONFIG, "model_final.pth": WEIGHTS, name: text.encode()}
    for other, content in files.items():
        assert (await server.put(other, content)).status_code == 201
    error = error_of(await server.complete(), 422)
    assert error.code == "model_refused"
    assert not marker.exists()
    assert server.files() == set()


@pytest.mark.parametrize("base", ["/etc/passwd", "../../secret.yaml", "~/secret.yaml"])
async def test_a_config_builds_on_no_file_outside(make: Make, tmp_path: Path, base: str) -> None:
    server = make()
    (server.repository / "secret.yaml").write_text("MODEL: {META_ARCHITECTURE: Secret}")
    await server.put("config.yaml", f"_BASE_: {base}\n".encode() + CONFIG)
    await server.put("model_final.pth", WEIGHTS)
    error = error_of(await server.complete(), 422)
    assert error.code == "model_refused"
    assert "Secret" not in error.message


# --- how the body comes, over a socket ------------------------------------------------------------


async def test_a_body_longer_than_declared_adds_nothing_to_the_file(make: Make) -> None:
    server = make()
    async with server.listening() as port:
        answer = await talk(port, head("Content-Length: 4") + b"four and more")
    assert answer.startswith(b"HTTP/1.1 201")
    assert (server.repository / "shapes/.upload-2/labels.txt").read_bytes() == b"four"


async def test_a_body_shorter_than_declared_leaves_nothing(make: Make) -> None:
    server = make()
    async with server.listening() as port:
        await talk(port, head("Content-Length: 400"), b"four", ends=True)
    assert server.files() == set()


async def test_a_chunked_body_without_a_length_is_taken(make: Make) -> None:
    server = make()
    async with server.listening() as port:
        body = b"4\r\nfour\r\n5\r\n more\r\n0\r\n\r\n"
        answer = await talk(port, head("Transfer-Encoding: chunked"), body)
    assert answer.startswith(b"HTTP/1.1 201")
    assert (server.repository / "shapes/.upload-2/labels.txt").read_bytes() == b"four more"


async def test_a_chunked_body_over_the_limit_is_413(make: Make) -> None:
    server = make(max_upload_bytes=1024)
    async with server.listening() as port:
        body = b"800\r\n" + b"x" * 2048 + b"\r\n0\r\n\r\n"
        answer = await talk(port, head("Transfer-Encoding: chunked"), body)
    assert answer.startswith(b"HTTP/1.1 413")
    assert server.files() == set()


async def test_a_chunked_body_that_ends_early_leaves_nothing(make: Make) -> None:
    server = make()
    async with server.listening() as port:
        await talk(port, head("Transfer-Encoding: chunked"), b"4\r\nfour\r\n5\r\nmo", ends=True)
    assert server.files() == set()


async def test_two_lengths_are_no_request(make: Make) -> None:
    server = make()
    async with server.listening() as port:
        lines = ("Content-Length: 4", "Transfer-Encoding: chunked")
        answer = await talk(port, head(*lines), b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert server.files() == set()


async def test_a_compressed_body_is_415(make: Make) -> None:
    server = make()
    response = await server.put("labels.txt", b"x", headers={"Content-Encoding": "gzip"})
    error_of(response, 415)
    assert server.files() == set()
