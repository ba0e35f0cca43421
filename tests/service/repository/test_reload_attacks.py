"""``POST /reload`` with files of an attacker, on a real model: a refusal, and the old version answers."""

import io
import os
import shutil
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from fastapi import FastAPI
from hostile_files import call, storage, tensor, text, weights, write_pth, write_sparse
from PIL import Image

from service.app import create_app
from service.runtime import Runtime
from service.settings import PRETRAINED, Settings

pytestmark = pytest.mark.anyio


@dataclass
class House:
    """A server of the shapes model, its root, and a folder beside it with things to steal."""

    app: FastAPI
    root: Path
    outside: Path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("attacks")
    root, outside = folder / "root", folder / "outside"
    shutil.copytree(PRETRAINED, root)
    shutil.copytree(PRETRAINED, outside)
    settings = Settings(
        _env_file=None,
        name="shapes",
        device="cpu",
        threads=1,
        config=root / "config.yaml",
        weights=root / "model_final.pth",
    )
    runtime = Runtime(settings)
    try:
        runtime.load()
        yield House(create_app(runtime), root, outside)
    finally:
        runtime.close()


@pytest.fixture
async def client(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """Whatever a test does, no connection is opened, and one version answers before and after."""

    def connect(*arguments: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.setattr("socket.getaddrinfo", connect)
    transport = httpx.ASGITransport(house.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        before = await answer(client)
        yield client
        assert await answer(client) == before


async def answer(client: httpx.AsyncClient) -> Any:
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(picture, "PNG")
    files = {"image": ("x.png", picture.getvalue())}
    response = await client.post("/predict", files=files)
    assert response.status_code == 200, response.text
    content = response.json()
    return content["model"], content["predictions"][0]["instances"]


async def refused(client: httpx.AsyncClient, **body: Any) -> Any:
    """The error of a reload with that body, which is 403 or 422 and tells nothing of the server."""
    response = await client.post("/reload", json=body)
    assert response.status_code in (403, 422), response.text
    assert "Traceback" not in response.text
    error = response.json()["error"]
    assert (error["code"] == "path_outside_root") == (response.status_code == 403)
    return error


@pytest.fixture
def place(house: House) -> Iterator[Path]:
    """A folder under the root, gone after the test."""
    folder = house.root / "new"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


# --- paths ----------------------------------------------------------------------------------------

OUTSIDE = {
    "traversal": "../outside/{file}",
    "a longer way": "new/../../outside/{file}",
    "absolute": "{outside}/{file}",
    "a symlink to a file": "new/link",
    "a symlink to a folder": "new/folder/{file}",
    "a symlink to a symlink": "new/second",
    "a relative symlink": "new/relative",
    "/etc/passwd": "/etc/passwd",
    "the server's memory": "/proc/self/mem",
    "what it was started with": "/proc/self/environ",
    "an open file": "/proc/self/fd/0",
    "a device": "/dev/zero",
    "a symlink to a device": "new/zero",
    "a symlink to memory": "new/mem",
    "a zero byte": "model_final.pth\0",
}


@pytest.mark.parametrize(
    ("key", "file"),
    [("weights", "model_final.pth"), ("config", "config.yaml"), ("labels", "labels.txt")],
)
@pytest.mark.parametrize("name", OUTSIDE)
async def test_a_path_outside_of_the_root_is_403(
    client: httpx.AsyncClient, house: House, place: Path, name: str, key: str, file: str
) -> None:
    (place / "link").symlink_to(house.outside / file)
    (place / "folder").symlink_to(house.outside)
    (place / "second").symlink_to(place / "link")
    (place / "relative").symlink_to(f"../../outside/{file}")
    (place / "zero").symlink_to("/dev/zero")
    (place / "mem").symlink_to("/proc/self/mem")
    path = OUTSIDE[name].format(outside=house.outside, file=file)
    error = await refused(client, **{key: path})
    assert error["code"] == "path_outside_root"
    assert str(house.outside) not in error["message"]


@pytest.mark.parametrize("key", ["weights", "config", "labels"])
@pytest.mark.parametrize("scheme", ["http", "https", "file", "ftp", "s3", "detectron2"])
async def test_an_address_is_never_fetched(
    client: httpx.AsyncClient, key: str, scheme: str
) -> None:
    await refused(client, **{key: f"{scheme}://127.0.0.1:9/model_final.pth"})


@pytest.mark.parametrize("kind", ["pipe", "folder", "missing", "loop", "empty"])
@pytest.mark.parametrize("key", ["weights", "config", "labels"])
async def test_what_is_no_file_is_refused_without_waiting(
    client: httpx.AsyncClient, place: Path, key: str, kind: str
) -> None:
    os.mkfifo(place / "pipe")
    (place / "folder").mkdir()
    (place / "loop").symlink_to("loop")
    (place / "empty").touch()
    await refused(client, **{key: f"new/{kind}"})


@pytest.mark.parametrize("key", ["weights", "config", "labels"])
async def test_a_sparse_file_of_100_gb_is_refused_unread(
    client: httpx.AsyncClient, place: Path, key: str
) -> None:
    write_sparse(place / "sparse")
    await refused(client, **{key: "new/sparse"})


# --- weights --------------------------------------------------------------------------------------


async def test_a_gadget_does_not_run(client: httpx.AsyncClient, place: Path) -> None:
    canary = place / "canary"
    spell = weights(call("os", "system", text(f"touch {canary}")))
    write_pth(place / "model.pth", spell)
    (place / "model.pkl").write_bytes(spell)
    for name in ("model.pth", "model.pkl"):
        error = await refused(client, weights=f"new/{name}")
        assert error["code"] == "model_refused"
        assert "os.system, which is not allowed; nothing was executed" in error["message"]
    assert not canary.exists()


HOSTILE = {
    "a memo index of gigabytes": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a key nested deep": b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.",
    "a key whose hash takes for ever": b"\x80\x02})q\x00"
    + b"h\x00h\x00\x86q\x00" * 100
    + b"K\x01s.",
    "a name that JSON cannot have": b"\x80\x02}V\\ud800\nNs.",
    "a safetensors header of 2**63 bytes": struct.pack("<Q", 1 << 63) + b'{"a":1}',
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_riddle_is_refused(client: httpx.AsyncClient, place: Path, name: str) -> None:
    (place / "model.pkl").write_bytes(HOSTILE[name])
    assert (await refused(client, weights="new/model.pkl"))["code"] == "model_refused"


@pytest.mark.parametrize("numel", [1, 1 << 40])
async def test_storages_that_are_not_there_are_refused(
    client: httpx.AsyncClient, place: Path, numel: int
) -> None:
    pickled = weights(tensor(storage("0", numel), 0, (1 << 40,), (1,)))
    write_pth(place / "model.pth", pickled, data_0=bytes(4))
    assert (await refused(client, weights="new/model.pth"))["code"] == "model_refused"


async def test_weights_of_another_model_are_refused(client: httpx.AsyncClient, place: Path) -> None:
    torch.save({"model": {"a": torch.zeros(3)}}, place / "model.pth")
    assert (await refused(client, weights="new/model.pth"))["code"] == "model_refused"


# --- configs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base",
    [
        "../../outside/config.yaml", "{outside}/config.yaml", "link.yaml", "folder/config.yaml",
        "/etc/passwd", "~/config.yaml", "/proc/self/environ", "/dev/zero",
    ],
)  # fmt: skip
async def test_a_base_outside_of_the_root_is_403(
    client: httpx.AsyncClient, house: House, place: Path, base: str
) -> None:
    (place / "link.yaml").symlink_to(house.outside / "config.yaml")
    (place / "folder").symlink_to(house.outside)
    (place / "config.yaml").write_text(f"_BASE_: {base.format(outside=house.outside)}\n")
    error = await refused(client, config="new/config.yaml", weights="model_final.pth")
    assert error["code"] == "path_outside_root"


@pytest.mark.parametrize(
    "config",
    [
        "_BASE_: http://127.0.0.1:9/base.yaml",
        "_BASE_: file:///etc/passwd",
        "_BASE_: pipe",
        "_BASE_: config.yaml",
        "A: !!python/object/apply:os.system ['touch canary']",
        "A: !!python/object/new:os.system ['touch canary']",
        "A: !!python/name:os.system",
        'A: !!python/object/apply:eval [\'__import__("os").system("touch canary")\']',
        "model: {_target_: os.system, command: touch canary}",
        "A: 1" + ":1" * 20_000,
        r'A: "\ud800"',
    ],
    ids=lambda config: config[:40],
)
async def test_a_config_that_reaches_further_is_refused(
    client: httpx.AsyncClient, place: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.chdir(place)
    os.mkfifo(place / "pipe")
    (place / "config.yaml").write_text(config)
    await refused(client, config="new/config.yaml", weights="model_final.pth")
    assert not (place / "canary").exists()


async def test_the_weights_that_a_config_names_are_not_fetched(
    client: httpx.AsyncClient, house: House, place: Path
) -> None:
    config = (house.root / "config.yaml").read_text() + "\n"
    config = config.replace("MODEL:\n", "MODEL:\n  WEIGHTS: https://127.0.0.1:9/m.pkl\n", 1)
    config = "\n".join(
        line
        for line in config.splitlines()
        if not line.startswith("  WEIGHTS: ") or "https" in line
    )
    assert "https://127.0.0.1:9" in config
    (place / "config.yaml").write_text(config)
    torch.save({"a": torch.zeros(1)}, place / "model.pth")
    # What is loaded is what the request names, and that does not fit.
    error = await refused(client, config="new/config.yaml", weights="new/model.pth")
    assert "does not fit the model" in error["message"]


async def test_labels_beside_a_config_may_not_lead_out_of_the_root(
    client: httpx.AsyncClient, house: House, place: Path
) -> None:
    shutil.copy(house.root / "config.yaml", place)
    (place / "labels.txt").symlink_to(house.outside / "labels.txt")
    error = await refused(client, config="new/config.yaml", weights="model_final.pth")
    assert error["code"] == "path_outside_root"


async def test_labels_that_are_something_else_are_not_quoted(
    client: httpx.AsyncClient, place: Path
) -> None:
    (place / "labels.txt").write_text("root:x:0:0:secret\n" * 40)
    error = await refused(client, labels="new/labels.txt")
    assert "secret" not in error["message"]
