"""A real server of the embedded model, in the server's own environment, for clients in another one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import live_server

ROOT = Path(__file__).parent.parent.parent
PYTHON = Path(os.environ.pop("DETSERVE_PYTHON", ROOT / ".venv" / "bin" / "python"))
SAMPLES = ROOT / "models" / "pretrained" / "shapes" / "samples"


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    cwd = tmp_path_factory.mktemp("server")
    with live_server("--threads", "2", cwd=cwd, python=PYTHON) as server:
        yield server.url


@pytest.fixture(params=["shapes-1.jpg", "shapes-2.jpg"])
def sample(request: pytest.FixtureRequest) -> Path:
    """A picture that the embedded model finds something in."""
    return SAMPLES / request.param
