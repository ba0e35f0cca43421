"""A server that takes uploads into a repository, without a socket or with one, and the files to send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from service.error_handlers import install_error_handlers
from service.logging import log_request
from service.middleware import RequestContextMiddleware
from service.routes import upload
from service.security import AdminGuard
from service.server.protocol import guarded_protocol
from service.settings import PRETRAINED, Settings

BINARY = {"Content-Type": "application/octet-stream"}
CONFIG = (PRETRAINED / "config.yaml").read_bytes()
WEIGHTS = (PRETRAINED / "model_final.pth").read_bytes()
LABELS = (PRETRAINED / "labels.txt").read_bytes()


class UploadServer:
    """The upload routes over an empty repository; ``options`` are settings. No model is served."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.repository = folder / "repository"
        self.repository.mkdir()
        given = {"allow_upload": True, "repository": self.repository} | options
        settings = Settings(_env_file=None, **given)
        token = settings.admin_token
        app = FastAPI()
        app.state.runtime = SimpleNamespace(
            settings=settings,
            admin=AdminGuard(
                token.get_secret_value() if token else None, opened=settings.admin_open
            ),
        )
        install_error_handlers(app)
        app.include_router(upload.router)
        self.app = RequestContextMiddleware(app, observe=log_request)
        self.client = self.client_from("127.0.0.1")

    def client_from(self, host: str) -> httpx.AsyncClient:
        """A client at this address."""
        transport = httpx.ASGITransport(self.app, client=(host, 40000))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def put(
        self,
        name: str,
        content: Any = b"x",
        *,
        model: str = "shapes",
        version: str = "2",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Upload one file."""
        path = f"/models/{model}/versions/{version}/files/{name}"
        return await self.client.put(path, content=content, headers=BINARY | (headers or {}))

    async def complete(
        self, files: dict[str, str] | None = None, *, version: str = "2"
    ) -> httpx.Response:
        """Make a version of what was uploaded."""
        body = {} if files is None else {"files": files}
        return await self.client.post(f"/models/shapes/versions/{version}/complete", json=body)

    async def drop(self, *, version: str = "2") -> httpx.Response:
        """Remove what was uploaded."""
        return await self.client.delete(f"/models/shapes/versions/{version}/upload")

    def files(self) -> set[str]:
        """All files in the repository, hidden ones too, as paths under it."""
        paths = (path for path in self.repository.rglob("*") if path.is_file())
        return {path.relative_to(self.repository).as_posix() for path in paths}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """The port of the real protocol in front of the app."""
        protocol = guarded_protocol()
        config = uvicorn.Config(
            self.app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False
        )
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for connection in list(state.connections):
                connection.transport.abort()
            while state.tasks:  # that clean up behind the connections
                await asyncio.wait(list(state.tasks))
