"""Uploading a version file by file: what is kept, what is refused, and what becomes a version."""

import asyncio
import errno
import fcntl
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from upload_server import BINARY, CONFIG, LABELS, WEIGHTS, UploadServer

from service.repository.disk.folder import RepositoryFolder
from service.schemas.answers import ErrorAnswer
from service.schemas.uploads import UploadedFile, UploadedVersion

pytestmark = pytest.mark.anyio
Make = Callable[..., UploadServer]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make(max_upload_bytes=...)``: a server with these settings."""
    return lambda **options: UploadServer(tmp_path, **options)


def error_of(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return ErrorAnswer.model_validate(response.json()).error


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- one file -------------------------------------------------------------------------------------


async def test_a_file_is_staged_where_no_version_is(make: Make) -> None:
    server = make()
    response = await server.put("labels.txt", LABELS)
    assert response.status_code == 201
    answer = UploadedFile.model_validate(response.json())
    assert answer == UploadedFile(name="labels.txt", size=len(LABELS), sha256=sha256(LABELS))
    assert server.files() == {"shapes/.upload-2/labels.txt"}
    assert RepositoryFolder(server.repository).model("shapes").versions() == []


@pytest.mark.parametrize(
    "name",
    [
        "config.yaml",
        "model.yaml",
        "golden.json",
        "golden/shapes-1.jpg",
        "golden/a.b_c.png",
        "model_final.safetensors",
        "model_final.pth",
        "model_final.pkl",
    ],
)
async def test_every_file_of_a_version_is_taken(make: Make, name: str) -> None:
    server = make()
    assert (await server.put(name, b"content")).status_code == 201
    staged = server.repository / "shapes" / ".upload-2" / name
    assert staged.read_bytes() == b"content"


async def test_the_same_file_again_replaces_the_first(make: Make) -> None:
    server = make()
    await server.put("labels.txt", b"first, and longer")
    await server.put("labels.txt", b"second")
    assert (server.repository / "shapes/.upload-2/labels.txt").read_bytes() == b"second"


async def test_a_hash_that_agrees_is_taken_in_either_case(make: Make) -> None:
    server = make()
    for digest in (sha256(b"x"), sha256(b"x").upper()):
        response = await server.put("labels.txt", b"x", headers={"X-Content-SHA256": digest})
        assert response.status_code == 201


async def test_a_hash_that_differs_is_422_and_nothing_is_kept(make: Make) -> None:
    server = make()
    response = await server.put("labels.txt", b"y", headers={"X-Content-SHA256": sha256(b"x")})
    error = error_of(response, 422)
    assert error.code == "hash_differs"
    assert error.details["sha256"] == sha256(b"y")
    assert not any(server.repository.iterdir())  # not even the model's folder


@pytest.mark.parametrize("digest", ["", "x", "0" * 63, "0" * 65, "g" * 64])
async def test_what_is_no_hash_is_422_before_the_body(make: Make, digest: str) -> None:
    server = make()
    response = await server.put("labels.txt", _never(), headers={"X-Content-SHA256": digest})
    assert error_of(response, 422).code == "invalid_hash"


async def test_a_body_goes_to_disk_while_it_arrives(make: Make) -> None:
    server = make()
    piece = bytes(64 * 1024)
    on_disk: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield piece
            part = server.repository / "shapes/.upload-2/.part"
            on_disk.append(part.stat().st_size if part.exists() else 0)

    assert (await server.put("model_final.pth", body())).status_code == 201
    # When a piece is asked for, all those before the last one are on disk.
    assert on_disk[2:] == [len(piece) * i for i in range(3, 65)]


async def test_a_file_is_synced_before_the_answer(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    assert (await make().put("labels.txt", b"four")).status_code == 201
    assert 4 in synced


# --- refusals -------------------------------------------------------------------------------------


async def _never() -> AsyncIterator[bytes]:
    raise AssertionError("the body was read")
    yield b""


@pytest.mark.parametrize("options", [{}, {"repository": None}])
async def test_uploads_are_off_unless_allowed(make: Make, options: dict[str, Any]) -> None:
    server = make(allow_upload=False, **options)
    error = error_of(await server.put("labels.txt", _never()), 403)
    assert error.code == "upload_disabled"
    assert "--allow-upload" in error.message
    assert error_of(await server.complete(), 403).code == "upload_disabled"
    assert error_of(await server.drop(), 403).code == "upload_disabled"


async def test_a_declared_length_over_the_limit_is_413_before_the_body(make: Make) -> None:
    server = make(max_upload_bytes=2000)
    headers = {"Content-Length": "2001"}
    error = error_of(await server.put("labels.txt", _never(), headers=headers), 413)
    assert error.code == "upload_too_large"
    assert error.details == {"limit": 2000, "value": 2001}


async def test_the_limit_holds_for_all_files_together(make: Make) -> None:
    server = make(max_upload_bytes=2000)
    assert (await server.put("labels.txt", b"x" * 1500)).status_code == 201
    error = error_of(await server.put("golden.json", b"x" * 501), 413)
    assert error.details == {"limit": 2000, "value": 2001}
    assert (await server.put("labels.txt", b"x" * 2000)).status_code == 201  # in its place


async def test_a_body_without_a_length_is_counted(make: Make) -> None:
    server = make(max_upload_bytes=2000)
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 500

    error = error_of(await server.put("labels.txt", body()), 413)
    assert error.code == "upload_too_large"
    assert sent <= 6
    assert server.files() == set()


async def test_more_files_than_a_version_may_have_are_413(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.repository.disk.staging.MAX_FILES", 2)
    server = make()
    for number in (1, 2, 2):
        assert (await server.put(f"golden/{number}.jpg")).status_code == 201
    assert error_of(await server.put("golden/3.jpg"), 413).code == "too_many_files"


@pytest.mark.parametrize("length", ["3", "5"])
async def test_a_body_of_another_length_than_declared_is_400(make: Make, length: str) -> None:
    server = make()
    response = await server.put("labels.txt", b"four", headers={"Content-Length": length})
    assert error_of(response, 400).code == "incomplete_body"
    assert server.files() == set()


async def test_a_slow_body_is_408_and_nothing_is_kept(make: Make) -> None:
    server = make(body_timeout_s=0.05)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    assert error_of(await server.put("labels.txt", body()), 408).code == "request_timeout"
    assert server.files() == set()


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk_full"), (errno.EROFS, "version_not_written")]
)
async def test_a_disk_that_does_not_take_it_is_507_and_nothing_is_kept(
    make: Make, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def fails(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    server = make()
    monkeypatch.setattr(os, "fsync", fails)
    error = error_of(await server.put("labels.txt", b"x"), 507)
    assert error.code == code
    assert str(server.repository) not in error.message
    assert server.files() == set()


async def test_a_disk_that_is_full_meanwhile_is_507_and_the_other_files_stay(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, mode: str) -> Any:
        os.close(handle)
        return Path("/dev/full").open(mode)

    server = make()
    await server.put("golden.json", b"{}")
    monkeypatch.setattr("service.repository.disk.staging.os.fdopen", full)
    error = error_of(await server.put("labels.txt", b"x" * 100_000), 507)
    assert error.code == "disk_full"
    assert server.files() == {"shapes/.upload-2/golden.json"}


async def test_a_version_that_is_there_is_409(make: Make) -> None:
    server = make()
    await server.put("labels.txt")
    (server.repository / "shapes" / "2").mkdir()
    for answer in (server.put("labels.txt"), server.complete(), server.drop()):
        assert error_of(await answer, 409).code == "version_exists"


async def test_an_alias_is_no_label(make: Make) -> None:
    server = make()
    model = RepositoryFolder(server.repository).create_model("shapes")
    (model.path / "1").mkdir()
    model.set_alias("stable", "1")
    error = error_of(await server.put("labels.txt", version="stable"), 409)
    assert error.code == "alias_exists"


async def test_two_uploads_to_a_version_at_once_are_409(make: Make) -> None:
    server = make()
    begun, go = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        begun.set()
        await go.wait()

    first = asyncio.create_task(server.put("labels.txt", body()))
    await begun.wait()
    for answer in (
        server.put("labels.txt", _never()),
        server.put("config.yaml", _never()),
        server.complete(),
        server.drop(),
    ):
        assert error_of(await answer, 409).code == "upload_running"
    assert (await server.put("labels.txt", version="3")).status_code == 201
    go.set()
    assert (await first).status_code == 201
    assert (server.repository / "shapes/.upload-2/labels.txt").read_bytes() == b"first"


async def test_an_upload_that_another_process_runs_is_409(make: Make) -> None:
    server = make()
    await server.put("labels.txt")
    handle = os.open(server.repository / "shapes/.upload-2", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert error_of(await server.put("labels.txt"), 409).code == "upload_running"
    finally:
        os.close(handle)
    assert (await server.put("labels.txt")).status_code == 201


async def test_what_a_crash_has_left_of_a_file_is_replaced(make: Make) -> None:
    server = make()
    await server.put("golden.json")
    (server.repository / "shapes/.upload-2/.part").write_bytes(b"half")
    assert (await server.put("labels.txt", b"whole")).status_code == 201
    assert server.files() == {"shapes/.upload-2/golden.json", "shapes/.upload-2/labels.txt"}


async def test_a_stop_of_the_server_leaves_no_half_file_and_no_lock(make: Make) -> None:
    server = make()
    begun = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(server.put("labels.txt", body()))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert server.files() == set()
    assert (await server.put("labels.txt")).status_code == 201


# --- completing -----------------------------------------------------------------------------------


async def upload_shapes(server: UploadServer) -> dict[str, str]:
    """Upload the embedded model; the hashes of its files."""
    files = {"config.yaml": CONFIG, "labels.txt": LABELS, "model_final.pth": WEIGHTS}
    for name, content in files.items():
        assert (await server.put(name, content)).status_code == 201
    return {name: sha256(content) for name, content in files.items()}


async def test_complete_makes_a_version_that_agrees_with_its_manifest(make: Make) -> None:
    server = make()
    files = await upload_shapes(server)
    response = await server.complete(files)
    assert response.status_code == 201, response.text
    answer = UploadedVersion.model_validate(response.json())
    assert (answer.model, answer.version) == ("shapes", "2")
    assert {file.name: file.sha256 for file in answer.files} == files
    version = RepositoryFolder(server.repository).model("shapes").version("2")
    manifest = version.manifest()
    manifest.verify(version.path)
    assert manifest.digest == answer.digest
    assert version.complete
    assert not [name for name in server.files() if ".upload-" in name or ".part" in name]


async def test_the_hashes_need_not_be_announced(make: Make) -> None:
    server = make()
    await upload_shapes(server)
    path = "/models/shapes/versions/2/complete"
    response = await server.client.post(path, headers={"Content-Type": "application/json"})
    assert response.status_code == 201, response.text


async def test_after_it_the_version_is_immutable(make: Make) -> None:
    server = make()
    await upload_shapes(server)
    await server.complete()
    for answer in (server.put("labels.txt"), server.complete(), server.drop()):
        response = await answer
        assert response.status_code in (404, 409)
    error = error_of(await server.put("labels.txt"), 409)
    assert error.code == "version_exists"


@pytest.mark.parametrize(
    "change",
    [
        {"labels.txt": sha256(b"others")},
        {"golden.json": sha256(b"missing")},
        {"labels.txt": None},
    ],
)
async def test_other_files_than_announced_are_422_and_nothing_is_kept(
    make: Make, change: dict[str, str | None]
) -> None:
    server = make()
    files: dict[str, Any] = await upload_shapes(server) | change
    announced = {name: digest for name, digest in files.items() if digest is not None}
    error = error_of(await server.complete(announced), 422)
    assert error.code == "files_differ"
    assert error.details["files"] == list(change)
    assert server.files() == set()


async def test_weights_that_do_not_fit_the_config_are_422_and_nothing_is_kept(make: Make) -> None:
    server = make()
    await upload_shapes(server)
    await server.put("config.yaml", CONFIG.replace(b"NUM_CLASSES: 4", b"NUM_CLASSES: 7"))
    error = error_of(await server.complete(), 422)
    assert error.code == "model_refused"
    assert "classes" in error.message
    assert server.files() == set()


async def test_labels_of_another_number_are_422(make: Make) -> None:
    server = make()
    await upload_shapes(server)
    await server.put("labels.txt", b"one\ntwo\n")
    assert error_of(await server.complete(), 422).code == "model_refused"


async def test_without_weights_it_is_422(make: Make) -> None:
    server = make()
    await server.put("config.yaml", CONFIG)
    assert error_of(await server.complete(), 422).code == "file_missing"


async def test_with_two_weights_files_it_is_422(make: Make) -> None:
    server = make()
    await upload_shapes(server)
    await server.put("model_final.pkl", WEIGHTS)
    assert error_of(await server.complete(), 422).code == "several_weights"


async def test_too_little_memory_to_check_it_is_422_and_all_is_kept(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make()
    await upload_shapes(server)
    monkeypatch.setattr("service.repository.disk.weights_file.free_host_memory", lambda: 1000)
    assert error_of(await server.complete(), 422).code == "not_enough_memory"
    assert len(server.files()) == 3


@pytest.mark.parametrize(
    "body", [{"files": {"config.yaml": "x"}}, {"files": ["config.yaml"]}, {"file": {}}]
)
async def test_a_bad_body_of_complete_is_422_and_all_is_kept(make: Make, body: Any) -> None:
    server = make()
    await server.put("labels.txt")
    path = "/models/shapes/versions/2/complete"
    assert error_of(await server.client.post(path, json=body), 422).code == "invalid_option"
    assert server.files() == {"shapes/.upload-2/labels.txt"}


async def test_what_was_never_begun_is_404(make: Make) -> None:
    server = make()
    assert error_of(await server.complete(), 404).code == "unknown_model"
    assert error_of(await server.drop(), 404).code == "unknown_model"
    await server.put("labels.txt")
    assert error_of(await server.complete(version="3"), 404).code == "unknown_upload"
    assert error_of(await server.drop(version="3"), 404).code == "unknown_upload"


async def test_a_dropped_upload_leaves_nothing(make: Make) -> None:
    server = make()
    await server.put("golden/1.jpg")
    assert (await server.drop()).status_code == 204
    assert not any(server.repository.iterdir())


async def test_dropping_keeps_the_versions_that_there_are(make: Make) -> None:
    server = make()
    await upload_shapes(server)
    await server.complete()
    await server.put("labels.txt", version="3")
    await server.drop(version="3")
    assert RepositoryFolder(server.repository).model("shapes").version("2").complete


# --- who did it -----------------------------------------------------------------------------------


async def test_every_step_is_an_audit_line(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="service.audit")
    server = make(max_upload_bytes=1024)
    await server.put("labels.txt", b"x")
    await server.put("labels.txt", b"x" * 2000)
    await server.complete()
    await server.drop(version="4")
    lines = [record for record in caplog.records if record.name == "service.audit"]
    facts = [line.__dict__["fields"] for line in lines]
    assert [(fact["action"], fact["status"]) for fact in facts] == [
        ("upload", 201),
        ("upload", 413),
        ("complete_upload", 422),
        ("drop_upload", 404),
    ]
    assert facts[0]["sha256"] == sha256(b"x")
    assert {fact["model"] for fact in facts} == {"shapes"}
    assert [line.levelno for line in lines] == [logging.INFO] + [logging.WARNING] * 3


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_only_an_admin_may(make: Make, method: str) -> None:
    paths = {"PUT": "files/labels.txt", "POST": "complete", "DELETE": "upload"}
    path = f"/models/shapes/versions/2/{paths[method]}"
    headers = BINARY if method == "PUT" else {"Content-Type": "application/json"}
    server = make()
    async with server.client_from("203.0.113.9") as client:
        response = await client.request(method, path, headers=headers)
    assert error_of(response, 403).code == "admin_forbidden"
    assert not any(server.repository.iterdir())


async def test_what_was_abandoned_goes_when_the_next_upload_begins(make: Make) -> None:
    server = make()
    assert (await server.put("labels.txt", version="1")).status_code == 201
    old = server.repository / "shapes" / ".upload-1"
    for path in (old, *old.iterdir()):
        os.utime(path, (0, 0))
    assert (await server.put("labels.txt", version="2")).status_code == 201
    assert not old.exists()
    assert (server.repository / "shapes" / ".upload-2").is_dir()
