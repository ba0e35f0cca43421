"""``/`` and ``/playground/``: the web page, its files and the sample pictures.

All addresses in the page are relative, so that it works behind a proxy that adds a path.
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.playground import STATIC
from service.settings import PRETRAINED

SAMPLES = PRETRAINED / "samples"

HEADERS = {
    # Own files alone, no inline script or style, and no text of others that becomes markup.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    # Asked for again at every visit, and answered with 304: an update of the server is seen at once.
    "Cache-Control": "no-cache",
}


class _PageFiles(StaticFiles):
    """Files with the headers that keep the page to itself."""

    def file_response(
        self,
        full_path: os.PathLike[str] | str,
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        return response


async def _page(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", media_type="text/html", headers=HEADERS)


async def _samples(request: Request) -> Response:
    names = sorted(path.name for path in SAMPLES.glob("*.jpg"))
    return JSONResponse({"samples": names}, headers=HEADERS)


def install_playground(app: FastAPI) -> None:
    """Serve the page at ``/`` and what it needs under ``/playground/``; no part of the API document."""
    app.add_route("/", _page, methods=["GET"], include_in_schema=False)
    app.add_route("/playground/samples.json", _samples, methods=["GET"], include_in_schema=False)
    app.mount("/playground/samples", _PageFiles(directory=SAMPLES), name="playground-samples")
    app.mount("/playground", _PageFiles(directory=STATIC), name="playground")
