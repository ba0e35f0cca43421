"""``detserve models add`` through a server: every file with its hash, or nothing that stays."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from admin_server import FakeServer, run


def write(folder: Path, **files: bytes) -> dict[str, Path]:
    names = {"weights": "final.pth", "config": "mine.yaml", "labels": "names.txt"}
    paths = {kind: folder / names[kind] for kind in files}
    for kind, path in paths.items():
        path.write_bytes(files[kind])
    return paths


def allow_upload(server: FakeServer, version: str, *names: str) -> None:
    for name in names:
        server.on(f"PUT /models/shapes/versions/{version}/files/{name}", (201, {"name": name}))
    done = {"digest": "0123456789abcdef"}
    server.on(f"POST /models/shapes/versions/{version}/complete", (201, done))
    server.on(f"DELETE /models/shapes/versions/{version}/upload", (204, b""))


def test_files_are_uploaded_with_their_hashes_and_completed(
    server: FakeServer, tmp_path: Path
) -> None:
    big = bytes(range(256)) * 10_000
    files = write(tmp_path, weights=big, config=b"VERSION: 2\n", labels=b"disc\n")
    allow_upload(server, "7", "model_final.pth", "config.yaml", "labels.txt")
    options = [part for kind, path in files.items() for part in (f"--{kind}", path)]
    code, output = run(server, "add", "shapes", "7", *options)
    assert code == 0, output
    uploads, (complete,) = server.requests[:-1], server.requests[-1:]
    sent = {request.call.rpartition("/")[2]: request for request in uploads}
    assert sent.keys() == {"model_final.pth", "config.yaml", "labels.txt"}
    assert sent["model_final.pth"].body == big
    for request in uploads:
        assert request.headers["Content-Type"] == "application/octet-stream"
        digest = hashlib.sha256(request.body).hexdigest()
        assert request.headers["X-Content-SHA256"] == digest
        assert complete.json["files"][request.call.rpartition("/")[2]] == digest
    assert complete.headers["Content-Type"] == "application/json"
    assert "shapes 7 is complete: 3 files, 0123456789ab." in output


def test_names_beside_the_config_are_uploaded_too(server: FakeServer, tmp_path: Path) -> None:
    files = write(tmp_path, weights=b"w", config=b"VERSION: 2\n")
    names = ("labels.txt", "stuff_labels.txt", "keypoints.json")
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    allow_upload(server, "7", "model_final.pth", "config.yaml", *names)
    options = [part for kind, path in files.items() for part in (f"--{kind}", path)]
    code, output = run(server, "add", "shapes", "7", *options)
    assert code == 0, output
    sent = {request.call.rpartition("/")[2]: request.body for request in server.requests[:-1]}
    assert {name: sent[name] for name in names} == {name: name.encode() for name in names}


@pytest.mark.parametrize(
    ("known", "label"),
    [
        ((200, {"versions": [{"version": "9"}, {"version": "10"}, {"version": "v30"}]}), "11"),
        ((404, {"error": {"code": "unknown_model", "message": "No."}}), "1"),
    ],
)
def test_without_a_name_a_version_is_the_next_number(
    server: FakeServer, tmp_path: Path, known: tuple[int, Any], label: str
) -> None:
    server.on("GET /models/shapes", known)
    allow_upload(server, label, "model_final.pth")
    code, output = run(
        server, "add", "shapes", "--weights", write(tmp_path, weights=b"w")["weights"]
    )
    assert code == 0, output
    assert f"shapes {label} is complete" in output


def test_golden_answers_go_with_their_pictures(server: FakeServer, tmp_path: Path) -> None:
    weights = write(tmp_path, weights=b"w")["weights"]
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "a.jpg").write_bytes(b"picture")
    (tmp_path / "mine.json").write_text("{}")
    names = ("model_final.pth", "golden.json", "golden/a.jpg")
    allow_upload(server, "1", *names)
    options = ("--weights", weights, "--golden", tmp_path / "mine.json")
    code, output = run(server, "add", "shapes", "1", *options)
    assert code == 0, output
    assert server.requests[-1].json["files"].keys() == set(names)


def test_a_config_is_sent_with_what_it_builds_on(server: FakeServer, tmp_path: Path) -> None:
    files = write(tmp_path, weights=b"w", config=b"_BASE_: base.yaml\n")
    (tmp_path / "base.yaml").write_text("TEST: {DETECTIONS_PER_IMAGE: 7}\n")
    allow_upload(server, "1", "model_final.pth", "config.yaml")
    options = ("--weights", files["weights"], "--config", files["config"])
    assert run(server, "add", "shapes", "1", *options)[0] == 0
    sent = next(r.body for r in server.requests if r.call.endswith("config.yaml"))
    assert b"DETECTIONS_PER_IMAGE: 7" in sent
    assert b"_BASE_" not in sent


def test_an_upload_that_fails_is_dropped(server: FakeServer, tmp_path: Path) -> None:
    files = write(tmp_path, weights=b"w", config=b"VERSION: 2\n")
    allow_upload(server, "1", "model_final.pth")
    full = {"error": {"code": "disk_full", "message": "The disk is full."}}
    server.on("PUT /models/shapes/versions/1/files/config.yaml", (507, full))
    options = ("--weights", files["weights"], "--config", files["config"])
    assert run(server, "add", "shapes", "1", *options) == (1, "error: The disk is full.\n")
    assert server.calls[-1] == "DELETE /models/shapes/versions/1/upload"


@pytest.mark.parametrize("code", ["upload_running", "version_exists", "upload_disabled"])
def test_what_is_not_ours_is_not_dropped(server: FakeServer, tmp_path: Path, code: str) -> None:
    weights = write(tmp_path, weights=b"w")["weights"]
    refusal = {"error": {"code": code, "message": "No."}}
    server.on("PUT /models/shapes/versions/1/files/model_final.pth", (409, refusal))
    assert run(server, "add", "shapes", "1", "--weights", weights) == (1, "error: No.\n")
    assert len(server.calls) == 1


def test_a_version_that_the_server_refuses_is_told(server: FakeServer, tmp_path: Path) -> None:
    weights = write(tmp_path, weights=b"w")["weights"]
    allow_upload(server, "1", "model_final.pth")
    refusal = {"error": {"code": "model_refused", "message": "It has NaN weights."}}
    server.on("POST /models/shapes/versions/1/complete", (422, refusal))
    code, output = run(server, "add", "shapes", "1", "--weights", weights)
    assert (code, output) == (1, "error: It has NaN weights.\n")


def test_a_file_that_is_not_there_is_told_before_anything_is_sent(
    server: FakeServer, tmp_path: Path
) -> None:
    code, output = run(server, "add", "shapes", "1", "--weights", tmp_path / "nowhere.pth")
    assert code == 1
    assert "nowhere.pth cannot be read: No such file" in output
    assert server.calls == []
