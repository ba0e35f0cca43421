"""Uploads beside what changes a model: the two know of each other's folders."""

from pathlib import Path

import pytest
from fake_repository import FolderLoader, make_version
from fake_server import Serve

pytestmark = pytest.mark.anyio


async def test_a_model_that_went_with_its_only_upload_is_unknown_again(
    serve: Serve, tmp_path: Path
) -> None:
    make_version(tmp_path, "1")
    client = serve(loader=FolderLoader(), repository=tmp_path, allow_upload=True).client
    version = "/models/square/versions/1"
    sent = await client.put(
        f"{version}/files/config.yaml",
        content=b"x",
        headers={"Content-Type": "application/octet-stream"},
    )
    assert sent.status_code == 201
    assert (await client.post("/reload", json={"model": "square"})).status_code == 404
    assert (await client.delete(f"{version}/upload")).status_code == 204
    assert not (tmp_path / "square").exists()
    for method, path in (("POST", "/reload"), ("DELETE", version)):
        response = await client.request(method, path, json={"model": "square"})
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "unknown_model"
