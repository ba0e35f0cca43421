"""AdminGuard and InferenceGuard: who is let through; resolve_under: which paths."""

from contextlib import suppress
from pathlib import Path

import pytest
from starlette.requests import Request

from service.errors import ApiError, Forbidden, Unauthorized
from service.security import AdminGuard, InferenceGuard, resolve_under

JSON = {"content-type": "application/json"}
LOCAL = {"host": "localhost:8000"} | JSON


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
        {"x-api-key": "s3cret"},
        {"authorization": "Basic dTpw", "x-admin-token": "s3cret"},
        {"authorization": "Bearer of-a-gateway", "x-admin-token": "s3cret"},
    ],
)
@pytest.mark.parametrize("host", ["detect.example", "203.0.113.1:80", "localhost:8000"])
def test_right_token_is_let_through_from_anywhere(headers: dict[str, str], host: str) -> None:
    request = request_from("203.0.113.9", JSON | headers | {"host": host})
    assert AdminGuard("s3cret").check(request) == "token"


def test_a_token_counts_more_than_open_routes() -> None:
    guard = AdminGuard("s3cret", opened=True)
    assert refusal(guard, request_from("127.0.0.1", LOCAL)).code == "admin_token_required"


# What a page of another origin could have its browser send, wherever the request comes from.
PAGES = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://10.0.0.5:3000"},
    {"origin": "http://10.0.0.5:8000@evil.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"content-type": "text/plain"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "multipart/form-data; boundary=x"},
    {"content-type": "text/plain; application/json"},
    {"content-type": ""},
]
OPEN = {"host": "10.0.0.5:8000", "content-type": "application/json"}


@pytest.mark.parametrize("page", PAGES)
def test_with_a_token_web_pages_are_refused_all_the_same(page: dict[str, str]) -> None:
    request = request_from("10.0.0.9", OPEN | {"authorization": "Bearer s3cret"} | page)
    assert refusal(AdminGuard("s3cret"), request).code == "admin_forbidden"


@pytest.mark.parametrize("page", PAGES)
def test_open_routes_are_closed_to_web_pages(page: dict[str, str]) -> None:
    error = refusal(AdminGuard(None, opened=True), request_from("10.0.0.9", OPEN | page))
    assert (error.status, error.code) == (403, "admin_forbidden")


def test_open_routes_are_closed_to_a_page_behind_dns_rebinding() -> None:
    headers = OPEN | {"host": "evil.example:8000", "origin": "http://evil.example:8000"}
    error = refusal(AdminGuard(None, opened=True), request_from("10.0.0.9", headers))
    assert "set an admin token" in error.message


@pytest.mark.parametrize("client", ["127.0.0.1", "203.0.113.9", None])
@pytest.mark.parametrize("host", ["10.0.0.5:8000", "detserve.default.svc"])
def test_open_routes_answer_every_machine(client: str | None, host: str) -> None:
    request = request_from(client, OPEN | {"host": host, "x-forwarded-for": "10.0.0.1"})
    assert AdminGuard(None, opened=True).check(request) == "open"


@pytest.mark.parametrize("host", ["10.0.0.5:8000", "[2001:db8::5]:8000", "localhost:8000"])
def test_open_routes_answer_the_page_of_their_own_address(host: str) -> None:
    request = request_from("10.0.0.9", OPEN | {"host": host, "origin": f"http://{host}"})
    assert AdminGuard(None, opened=True).check(request) == "open"


def test_open_routes_refuse_a_page_with_two_hosts() -> None:
    headers = [*OPEN.items(), ("host", "evil.example"), ("origin", "http://10.0.0.5:8000")]
    assert refusal(AdminGuard(None, opened=True), request_from("10.0.0.9", headers)).status == 403


@pytest.mark.parametrize("guard", [AdminGuard(None), AdminGuard(None, opened=True)])
def test_another_content_type_can_be_asked_for(guard: AdminGuard) -> None:
    binary = "application/octet-stream"
    upload = request_from("127.0.0.1", LOCAL | {"content-type": binary}, "PUT")
    guard.check(upload, content_type=binary)
    assert refusal(guard, upload).status == 403
    with pytest.raises(Forbidden, match=binary):
        guard.check(request_from("127.0.0.1", LOCAL, "PUT"), content_type=binary)


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
    assert AdminGuard(token).check(request_from(client, LOCAL)) == "loopback"


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


# InferenceGuard


@pytest.mark.parametrize("token", [None, "", " "])
@pytest.mark.parametrize("admin_token", [None, "s3cret"])
def test_without_a_token_everybody_may_ask(token: str | None, admin_token: str | None) -> None:
    InferenceGuard(token, admin_token=admin_token).check(request_from("203.0.113.9", {}))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer ask"},
        {"x-api-key": "ask"},
        {"authorization": "Bearer s3cret"},
        {"x-admin-token": "s3cret"},
        {"authorization": "Bearer of-a-gateway", "x-api-key": "ask"},
    ],
)
def test_both_tokens_may_ask_and_pages_too(headers: dict[str, str]) -> None:
    page = {"origin": "https://shop.example", "content-type": "text/plain"}
    InferenceGuard("ask", admin_token="s3cret").check(request_from("203.0.113.9", page | headers))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "token_required"),
        (LOCAL, "token_required"),
        ({"x-api-key": " "}, "token_required"),
        ({"authorization": "Basic ask"}, "token_required"),
        ({"authorization": "Bearer wrong"}, "token_wrong"),
        ({"authorization": "Bearer as\xe9"}, "token_wrong"),
        ({"x-api-key": "asks"}, "token_wrong"),
    ],
)
def test_with_a_token_all_others_may_not_ask(headers: dict[str, str], code: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        InferenceGuard("ask").check(request_from("127.0.0.1", headers))
    assert caught.value.code == code
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer realm="detserve"'


def test_the_inference_token_is_no_admin_token() -> None:
    request = request_from("127.0.0.1", LOCAL | {"authorization": "Bearer ask"})
    assert refusal(AdminGuard("s3cret"), request).code == "admin_token_wrong"


def test_a_token_outside_of_ascii_works() -> None:
    sent = "schlüssel".encode().decode("latin-1")  # its UTF-8 bytes, as the server sees them
    InferenceGuard("schlüssel").check(request_from("::1", {"x-api-key": sent}))


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
