"""AdminGuard: who is let through; resolve_under: which paths."""

from contextlib import suppress
from pathlib import Path

import pytest
from starlette.requests import Request

from service.errors import ApiError, Forbidden, Unauthorized
from service.security import AdminGuard, resolve_under

LOCAL = {"host": "localhost:8000", "content-type": "application/json"}


def request_from(
    client: str | None, headers: dict[str, str] | list[tuple[str, str]], method: str = "POST"
) -> Request:
    pairs = headers.items() if isinstance(headers, dict) else headers
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
    address = None if client is None else (client, 40000)
    return Request(
        {"type": "http", "method": method, "path": "/reload", "headers": raw, "client": address}
    )


def refusal(guard: AdminGuard, request: Request) -> ApiError:
    with pytest.raises(ApiError) as caught:
        guard.check(request)
    return caught.value


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer s3cret"},
        {"authorization": "bearer  s3cret "},
        {"x-admin-token": "s3cret"},
    ],
)
def test_right_token_is_let_through_from_anywhere(headers: dict[str, str]) -> None:
    AdminGuard("s3cret").check(request_from("203.0.113.9", headers))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "admin_token_required"),
        (LOCAL, "admin_token_required"),
        ({"authorization": "Bearer "}, "admin_token_required"),
        ({"authorization": "Basic s3cret"}, "admin_token_required"),
        ({"authorization": "Bearer wrong"}, "admin_token_wrong"),
        ({"authorization": "Bearer s3cre\xe9"}, "admin_token_wrong"),
        ({"x-admin-token": "s3cret2"}, "admin_token_wrong"),
    ],
)
def test_no_or_wrong_token_is_401_even_from_loopback(headers: dict[str, str], code: str) -> None:
    error = refusal(AdminGuard("s3cret"), request_from("127.0.0.1", headers))
    assert isinstance(error, Unauthorized)
    assert error.code == code
    assert error.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("token", [None, "", "  "])
@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_without_a_token_loopback_is_let_through(token: str | None, client: str) -> None:
    AdminGuard(token).check(request_from(client, LOCAL))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_every_spelling_of_loopback_is_a_valid_host(host: str) -> None:
    AdminGuard(None).check(request_from("::1", LOCAL | {"host": host}))


def test_page_of_the_same_origin_is_let_through() -> None:
    headers = LOCAL | {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    AdminGuard(None).check(request_from("127.0.0.1", headers))


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_request_without_body_needs_no_content_type(method: str) -> None:
    AdminGuard(None).check(request_from("127.0.0.1", {"host": "localhost:8000"}, method))


@pytest.mark.parametrize(
    "client", ["203.0.113.9", "10.0.0.1", "::ffff:10.0.0.1", "testclient", None]
)
def test_without_a_token_all_others_are_refused_and_told_what_to_set(client: str | None) -> None:
    error = refusal(AdminGuard(None), request_from(client, LOCAL))
    assert isinstance(error, Forbidden)
    assert "DETSERVE_ADMIN_TOKEN" in error.message


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example:8000"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost@evil.example"},
        {"host": "0.0.0.0:8000"},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": "http://[broken"},
        {"origin": "http://localhost:8000@evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain; application/json"},
        {"content-type": ""},
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-proto": "https"},
        {"forwarded": "for=127.0.0.1"},
        {"via": "1.1 proxy"},
        {"x-real-ip": "127.0.0.1"},
    ],
)
def test_without_a_token_web_pages_and_proxies_are_refused(changed: dict[str, str]) -> None:
    error = refusal(AdminGuard(None), request_from("127.0.0.1", LOCAL | changed))
    assert (error.status, error.code) == (403, "admin_forbidden")


def test_two_hosts_are_refused() -> None:
    headers = [*LOCAL.items(), ("host", "evil.example")]
    assert refusal(AdminGuard(None), request_from("127.0.0.1", headers)).status == 403


@pytest.mark.parametrize("missing", ["host", "content-type"])
def test_missing_header_is_refused(missing: str) -> None:
    headers = {name: value for name, value in LOCAL.items() if name != missing}
    assert refusal(AdminGuard(None), request_from("127.0.0.1", headers)).status == 403


# resolve_under


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A model root with a file in it, a file beside it, and links within and out."""
    (tmp_path / "secret.pth").write_bytes(b"secret")
    root = tmp_path / "models"
    (root / "a").mkdir(parents=True)
    (root / "a" / "model.pth").write_bytes(b"weights")
    (root / "inner").symlink_to("a")
    (root / "out").symlink_to("..")
    (root / "file-out").symlink_to(tmp_path / "secret.pth")
    (root / "loop").symlink_to("loop")
    return root


@pytest.mark.parametrize(
    "candidate", ["a/model.pth", "./a//model.pth", "a/../a/model.pth", "inner/model.pth"]
)
def test_relative_path_inside_resolves_to_the_real_file(root: Path, candidate: str) -> None:
    assert resolve_under(root, candidate) == root / "a" / "model.pth"


def test_absolute_path_inside_resolves(root: Path) -> None:
    assert resolve_under(root, str(root / "a/model.pth")) == root / "a" / "model.pth"


def test_root_may_itself_be_a_symlink(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert resolve_under(link, str(link / "a/model.pth")) == root / "a" / "model.pth"


def test_path_that_does_not_exist_yet_resolves(root: Path) -> None:
    assert resolve_under(root, "new/model.pth") == root / "new" / "model.pth"


def test_percent_encoding_is_not_decoded(root: Path) -> None:
    assert resolve_under(root, "%2e%2e/secret.pth") == root / "%2e%2e" / "secret.pth"


@pytest.mark.parametrize(
    "candidate",
    [
        "..",
        "../secret.pth",
        "../missing.pth",
        "a/../../secret.pth",
        "/",
        "/etc/passwd",
        "out/secret.pth",
        "file-out",
        "inner/../../secret.pth",
        "../models-other/model.pth",
        "loop/model.pth",
        "a/model.pth\x00.yaml",
        "\x00",
        "\ud800",
    ],
)
def test_path_that_leads_out_is_refused_without_a_hint_at_what_is_there(
    root: Path, candidate: str
) -> None:
    (root.parent / "models-other").mkdir()
    with pytest.raises(Forbidden) as caught:
        resolve_under(root, candidate)
    assert caught.value.code == "path_outside_root"
    assert caught.value.details == {}
    assert candidate not in caught.value.message or candidate in ("/", "..", "\x00")


@pytest.mark.parametrize("candidate", ["x" * 100_000, "x/" * 50_000])
def test_very_long_path_never_escapes(root: Path, candidate: str) -> None:
    # Whether such a path is refused or merely does not exist is the system's matter.
    with suppress(Forbidden):
        assert resolve_under(root, candidate).is_relative_to(root)
    with pytest.raises(Forbidden):
        resolve_under(root, "../" + candidate)
