"""An upload stays in memory, however large it is."""

import sys
from typing import Any

import httpx
import pytest
from fake_detector import FakeDetector, picture
from fake_server import Serve

pytestmark = pytest.mark.anyio

_opened: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    # A hook stays for ever; it notes only while a test has asked it to.
    if _opened is not None and event in ("open", "os.mkdir", "tempfile.mkstemp"):
        _opened.append(f"{event} {arguments[0]!r}")


sys.addaudithook(_note)


@pytest.mark.parametrize("body", ["multipart", "raw"])
async def test_a_large_upload_opens_no_file(
    serve: Serve, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(FakeDetector())
    data = picture(5) + bytes(8 * 2**20)  # behind the end of the picture nothing is read
    send: dict[str, Any] = (
        {"content": data} if body == "raw" else {"files": {"images": ("a.png", data)}}
    )
    await served.client.post("/predict", content=picture(5))  # what is opened once is open now
    request: httpx.Request = served.client.build_request("POST", "/predict", **send)
    opened: list[str] = []
    monkeypatch.setitem(globals(), "_opened", opened)
    response = await served.client.send(request)
    monkeypatch.undo()
    assert response.status_code == 200
    assert opened == []
