"""Real weights that are no good: the embedded model, damaged in every way, never takes its traffic."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from service.app import create_app
from service.repository.disk.manifest import Manifest
from service.runtime import Runtime
from service.settings import PRETRAINED, Settings

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parents[2] / "data" / "shapes"
PICTURE = PRETRAINED / "samples" / "shapes-1.jpg"
GATE = {"dataset": ".gate/val.json", "images": ".gate/val", "min_ap": 30, "max_images": 4}
PREDICTOR = "roi_heads.box_predictor"


def make_version(root: Path, label: str) -> Path:
    """The embedded model as a version that is not sealed yet."""
    folder = root / "shapes" / label
    folder.mkdir(parents=True)
    for name in ("config.yaml", "model_final.pth", "labels.txt"):
        shutil.copyfile(PRETRAINED / name, folder / name)
    return folder


def change_weights(version: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Save the weights with what ``change`` makes of them, as ``torch.save`` writes them."""
    path = version / "model_final.pth"
    state: dict[str, Any] = torch.load(path, weights_only=True)["model"]
    change(state)
    torch.save({"model": state}, path)


def _cut(version: Path) -> None:
    path = version / "model_final.pth"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _three_classes(version: Path) -> None:
    """Weights of a training with three classes beside the config of one with four."""

    def change(state: dict[str, Any]) -> None:
        for kind, rows in (("cls_score", [0, 1, 2, 4]), ("bbox_pred", list(range(12)))):
            for part in ("weight", "bias"):
                state[f"{PREDICTOR}.{kind}.{part}"] = state[f"{PREDICTOR}.{kind}.{part}"][rows]
        for part in ("weight", "bias"):
            name = f"roi_heads.mask_head.predictor.{part}"
            state[name] = state[name][:3]

    change_weights(version, change)


def _other_names(version: Path) -> None:
    names = (version / "labels.txt").read_text().split()
    (version / "labels.txt").write_text("\n".join(reversed(names)))


def _nan(name: str) -> Callable[[Path], None]:
    def spoil(version: Path) -> None:
        def change(state: dict[str, Any]) -> None:
            state[name].view(-1)[0] = float("nan")

        change_weights(version, change)

    return spoil


def _blind(version: Path) -> None:
    """All proposals are background: no number is odd, and nothing is found."""

    def change(state: dict[str, Any]) -> None:
        state[f"{PREDICTOR}.cls_score.bias"][-1] += 1000

    change_weights(version, change)


FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "truncated": (_cut, "model_refused", "model_final.pth"),
    "three-classes": (_three_classes, "model_refused", "3 classes"),
    "other-names": (_other_names, "classes_changed", "was 'disc' and is 'star'"),
    "nan-classifier": (_nan(f"{PREDICTOR}.cls_score.weight"), "model_refused", "NaN or infinite"),
    "nan-backbone": (_nan("backbone.fpn_lateral2.weight"), "model_refused", "NaN or infinite"),
    "blind": (_blind, "gate_failed", "AP is 0.00; at least 30"),
}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A server's parts with the sound version 1 current, and all the others on disk."""
    root = tmp_path_factory.mktemp("repository")
    Manifest.of(folder := make_version(root, "1")).write(folder)
    made = Runtime(Settings(_env_file=None, repository=root, device="cpu", threads=1))
    made.load()
    for label, (damage, *_) in FAULTS.items():
        damage(folder := make_version(root, label))
        Manifest.of(folder).write(folder)
    Manifest.of(folder := make_version(root, "sound")).write(folder)
    shutil.copytree(DATA / "val", root / ".gate" / "val")
    shutil.copyfile(DATA / "val.json", root / ".gate" / "val.json")
    yield made
    made.close()


@pytest.fixture
def client(runtime: Runtime) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(runtime)), base_url="http://localhost", timeout=60
    )


async def found(client: httpx.AsyncClient) -> tuple[str, Any]:
    """The version that answers, and its boxes in the sample picture."""
    response = await client.post("/predict", files={"images": ("a.jpg", PICTURE.read_bytes())})
    assert response.status_code == 200, response.text
    answer = response.json()
    boxes = answer["predictions"][0]["instances"]["pred_boxes"]
    assert boxes, "the sound model finds the shapes"
    return answer["model"]["version"], np.array(boxes)


async def reload_amid_requests(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    """The answer to a reload; requests before, during and after are answered by the version before."""
    version, boxes = await found(client)
    reload = asyncio.ensure_future(client.post("/reload", json=body))
    answers = [await found(client)]
    while not reload.done():
        answers.append(await found(client))
    if (await reload).status_code != 200:
        answers.append(await found(client))
        assert {answer[0] for answer in answers} == {version}
        for _, again in answers:
            np.testing.assert_allclose(again, boxes, atol=0.05)
    return await reload


@pytest.mark.parametrize("label", FAULTS)
async def test_damaged_weights_never_take_the_traffic(
    runtime: Runtime, client: httpx.AsyncClient, label: str
) -> None:
    _, code, reason = FAULTS[label]
    gate = GATE if code == "gate_failed" else False
    response = await reload_amid_requests(client, version=label, gate=gate)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, code), error["message"]
    assert reason in error["message"]
    assert error["details"]["serving_version"] == "1"
    status = (await client.get(f"/models/shapes/versions/{label}")).json()
    assert (status["state"], status["reason"]) == ("failed", error["message"])
    model = runtime.repository.get("shapes")
    assert (list(model.versions), model.shelf.record().current) == (["1"], "1")


async def test_in_place_brings_the_same_answers_back(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    """The old version is freed, the new one is refused, and the old one is read again."""
    before = runtime.repository.get("shapes").current
    response = await reload_amid_requests(
        client, version="nan-classifier", strategy="in_place", gate=False
    )
    assert (response.status_code, response.json()["error"]["code"]) == (422, "model_refused")
    after = runtime.repository.get("shapes").current
    assert after is not before
    assert after.detector.description.weights_sha256 == before.detector.description.weights_sha256


async def test_behind_all_of_them_a_sound_version_is_taken_up_and_given_back(
    client: httpx.AsyncClient,
) -> None:
    response = await reload_amid_requests(client, version="sound", gate=GATE)
    assert response.status_code == 200, response.text
    assert response.json()["gate"]["passed"]
    assert (await found(client))[0] == "sound"
    back = await client.post("/models/shapes/rollback", json={})
    assert back.status_code == 200, back.text
    assert (await found(client))[0] == "1"
