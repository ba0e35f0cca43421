"""The port of gRPC: off by default, checked beforehand, served by the app's lifespan."""

import socket
from typing import Any

import grpc
import grpc.aio
import pytest
from fake_server import Serve
from pydantic import ValidationError

import service.settings
from service.cli.serve import run
from service.grpc_server.messages import MESSAGES, SERVICE
from service.settings import Settings


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_without_a_port_there_is_no_grpc() -> None:
    assert settings().grpc_port == 0


def test_it_needs_a_port_of_its_own() -> None:
    with pytest.raises(ValidationError, match="a port of its own"):
        settings(port=9000, grpc_port=9000)


def test_it_needs_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.settings, "find_spec", lambda name: None)
    assert settings().grpc_port == 0
    with pytest.raises(ValidationError, match=r"detserve\[grpc\]"):
        settings(grpc_port=9000)


def test_a_link_of_kubernetes_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETSERVE_GRPC_PORT", "tcp://10.0.0.1:8001")
    assert settings().grpc_port == 0


def test_a_port_in_use_is_told_before_a_model_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(["--grpc-port", str(port), "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert "--grpc-port" in error
    assert "is in use" in error


@pytest.mark.anyio
async def test_the_app_serves_it_as_long_as_it_lives(serve: Serve) -> None:
    port = free_port()
    served = serve(grpc_port=port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        live = channel.unary_unary(
            f"/{SERVICE}/ServerLive",
            request_serializer=MESSAGES["ServerLiveRequest"].SerializeToString,
            response_deserializer=MESSAGES["ServerLiveResponse"].FromString,
        )
        async with served.app.router.lifespan_context(served.app):
            assert (await live(MESSAGES["ServerLiveRequest"](), timeout=20)).live
        with pytest.raises(grpc.aio.AioRpcError):
            await live(MESSAGES["ServerLiveRequest"](), timeout=20)
