"""A server for ``detserve models`` to meet."""

from collections.abc import Iterator

import pytest
from admin_server import FakeServer, answering

from service.cli import models_online


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """One that answers as the test says, and is asked again at once."""
    monkeypatch.setattr(models_online, "POLL_S", 0.0)
    monkeypatch.delenv("DETSERVE_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("DETSERVE_REPOSITORY", raising=False)
    with answering(FakeServer()) as fake:
        yield fake
