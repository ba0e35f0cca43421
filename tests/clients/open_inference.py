"""What the tests of both of Triton's clients share: a server that speaks both, and what is asked of it."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from live_server import live_server
from PIL import Image

OUTPUTS = [
    "pred_boxes", "scores", "pred_classes", "class_names", "image_index", "num_instances", "masks_rle",
]  # fmt: skip


@dataclass(frozen=True)
class Addresses:
    """Without a scheme, as the clients take them."""

    http: str
    grpc: str

    def predict(self, sample: Path) -> dict[str, Any]:
        """The instances that the native route finds."""
        request = urllib.request.Request(
            f"http://{self.http}/predict",
            data=sample.read_bytes(),
            headers={"Content-Type": "image/jpeg"},
        )
        with urllib.request.urlopen(request) as response:
            [prediction] = json.load(response)["predictions"]
        instances: dict[str, Any] = prediction["instances"]
        return instances


@contextmanager
def serving(cwd: Path, python: Path, *arguments: str) -> Iterator[Addresses]:
    """A server of the embedded model over HTTP and gRPC."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--threads", "2", "--grpc-port", str(port), *arguments)
    with live_server(*options, cwd=cwd, python=python) as server:
        yield Addresses(server.url.removeprefix("http://"), f"127.0.0.1:{port}")


def files(*samples: Path) -> Any:
    """A BYTES array of whole files."""
    return np.array([sample.read_bytes() for sample in samples], dtype=np.object_)


def pixels(sample: Path) -> Any:
    """(H, W, 3) uint8 RGB."""
    return np.asarray(Image.open(sample).convert("RGB"))


def check_instances(result: Any, native: dict[str, Any]) -> None:
    """The outputs of one image hold what the native route answers."""
    count = len(native["scores"])
    assert count > 0
    assert result.as_numpy("pred_boxes").dtype == np.float32
    assert np.array_equal(result.as_numpy("pred_boxes"), np.float32(native["pred_boxes"]))
    assert np.array_equal(result.as_numpy("scores"), np.float32(native["scores"]))
    assert result.as_numpy("pred_classes").dtype == np.int64
    assert result.as_numpy("pred_classes").tolist() == native["pred_classes"]
    names = [name.decode() for name in result.as_numpy("class_names")]
    assert names == native["class_names"]
    assert [json.loads(mask) for mask in result.as_numpy("masks_rle")] == native["masks"]
    assert result.as_numpy("num_instances").tolist() == [count]
    assert result.as_numpy("image_index").tolist() == [0] * count
