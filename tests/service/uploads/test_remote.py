"""fetch: what it follows, what it refuses, and where it really connects to."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from fake_detector import PATIENCE_S
from remote_server import NAME, OTHER_PUBLIC, PUBLIC, FakeNetwork, RemoteServer, http, limits_of

from service.errors import ApiError, TooLarge
from service.uploads.remote import Network, RemoteLimits, fetch

pytestmark = pytest.mark.anyio
URL = f"https://{NAME}/a.jpg"
JPEG = b"\xff\xd8\xff\xe0 not really"


@pytest.fixture
async def server() -> AsyncIterator[RemoteServer]:
    async with RemoteServer() as running:
        running.answers["/a.jpg"] = http(body=JPEG)
        yield running


@pytest.fixture
def network(server: RemoteServer) -> FakeNetwork:
    return FakeNetwork(server)


async def refusal(url: str, limits: RemoteLimits, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await fetch(url, limits, **options)
    return caught.value


def redirect(to: str, status: int = 302) -> bytes:
    return http(status, headers={"Location": to})


# What comes


async def test_the_bytes_come_over_tls_by_the_name_from_the_address(
    server: RemoteServer, network: FakeNetwork
) -> None:
    assert await fetch(URL, limits_of(network)) == JPEG
    assert network.asked == [f"{PUBLIC}:https"]
    assert f"\r\nHost: {NAME}\r\n" in server.heads[0]
    assert "\r\nAccept-Encoding: identity\r\n" in server.heads[0]


async def test_query_and_port_of_the_url_are_kept(
    server: RemoteServer, network: FakeNetwork
) -> None:
    server.answers["/a%20b?x=1&y=%2F"] = http(body=JPEG)
    url = f"https://{NAME}:8443/a%20b?x=1&y=%2F#z"
    assert await fetch(url, limits_of(network, ports=frozenset({8443}))) == JPEG
    assert f"\r\nHost: {NAME}:8443\r\n" in server.heads[0]


async def test_chunks_without_a_length_are_taken(
    server: RemoteServer, network: FakeNetwork
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answers["/a.jpg"] = head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert await fetch(URL, limits_of(network)) == b"abcde"


async def test_headers_of_the_caller_are_sent_but_none_that_it_must_not_set(
    server: RemoteServer, network: FakeNetwork
) -> None:
    headers = {"Authorization": "Token s3cret", "host": "evil.example", "Cookie": "a=b"}
    await fetch(URL, limits_of(network), headers=headers)
    assert "Authorization: Token s3cret" in server.heads[0]
    assert "evil" not in server.heads[0]
    assert "a=b" not in server.heads[0]


async def test_the_second_address_is_asked_when_the_first_cannot_be_reached(
    server: RemoteServer, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.names[NAME] = [[PUBLIC, PUBLIC, OTHER_PUBLIC]]
    opened = network.transport
    ports = [1, server.port]  # nobody listens on port 1

    async def transport() -> Any:
        made: Any = await opened()
        made._port = ports.pop(0)
        return made

    monkeypatch.setattr(network, "transport", transport)
    assert await fetch(URL, limits_of(network)) == JPEG
    assert network.asked == [f"{PUBLIC}:https", f"{OTHER_PUBLIC}:https"]


# Where it may lead


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"],
        ["64:ff9b::a9fe:a9fe"], ["224.0.0.1"], [PUBLIC, "10.1.2.3"], ["fe80::1%eth0"], [],
    ],
)  # fmt: skip
async def test_a_name_with_an_address_that_is_not_public_is_refused(
    network: FakeNetwork, addresses: list[str]
) -> None:
    network.names[NAME] = [addresses]
    error = await refusal(URL, limits_of(network))
    assert (error.status, error.code) == (422, "url_not_allowed")
    assert network.asked == []


async def test_an_unknown_name_is_told_in_the_words_of_a_private_one(network: FakeNetwork) -> None:
    network.names["inside.example"] = [["10.0.0.1"]]
    inside = await refusal("https://inside.example/", limits_of(network))
    unknown = await refusal("https://unknown.example/", limits_of(network))
    assert inside.message.replace("inside.", "unknown.", 1) == unknown.message


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]"]
)
async def test_an_address_that_is_not_public_is_refused_and_no_name_is_asked_for(
    network: FakeNetwork, host: str
) -> None:
    error = await refusal(f"https://{host}/a.jpg", limits_of(network))
    assert error.code == "url_not_allowed"
    assert (network.asked, network.resolved) == ([], [])


async def test_a_name_that_leads_elsewhere_a_moment_later_changes_nothing(
    network: FakeNetwork,
) -> None:
    network.names[NAME] = [[PUBLIC], ["127.0.0.1"]]
    assert await fetch(URL, limits_of(network)) == JPEG
    assert network.resolved == [NAME]
    assert network.asked == [f"{PUBLIC}:https"]


async def test_a_redirect_to_the_same_name_that_leads_inside_by_now_is_refused(
    server: RemoteServer, network: FakeNetwork
) -> None:
    network.names[NAME] = [[PUBLIC], ["127.0.0.1"]]
    server.answers["/a.jpg"] = redirect("/b.jpg")
    assert (await refusal(URL, limits_of(network))).code == "url_not_allowed"
    assert len(network.asked) == 1


@pytest.mark.parametrize(
    ("url", "part"),
    [
        (f"http://{NAME}/a.jpg", "use https"),
        (f"https://{NAME}:22/a.jpg", "Port 22"),
        (f"https://{NAME}:0/a.jpg", "Port 0"),
        (f"https://me:secret@{NAME}/a.jpg", "password"),
        ("https://2130706433/a.jpg", "no plain address"),
    ],
)
async def test_other_schemes_ports_and_forms_are_refused(
    network: FakeNetwork, url: str, part: str
) -> None:
    error = await refusal(url, limits_of(network))
    assert error.code == "url_not_allowed"
    assert part in error.message
    assert (network.asked, network.resolved) == ([], [])


async def test_http_is_fetched_where_it_is_allowed() -> None:
    async with RemoteServer(tls=False) as server:
        server.answers["/a.jpg"] = http(body=JPEG)
        limits = limits_of(FakeNetwork(server), schemes=frozenset({"https", "http"}))
        assert await fetch(f"http://{NAME}/a.jpg", limits) == JPEG


async def test_with_a_list_of_hosts_others_are_refused(network: FakeNetwork) -> None:
    limits = limits_of(network, hosts=("*.bucket.example",))
    error = await refusal(URL, limits)
    assert "url_hosts" in error.message
    assert network.resolved == []
    assert await fetch(URL, replace(limits, hosts=(NAME,))) == JPEG


# Redirects


async def test_a_redirect_is_looked_at_anew_and_followed(
    server: RemoteServer, network: FakeNetwork
) -> None:
    server.answers["/r"] = redirect("a.jpg", 307)
    assert await fetch(f"https://{NAME}/r", limits_of(network)) == JPEG
    assert network.resolved == [NAME, NAME]


@pytest.mark.parametrize(
    "to",
    [
        "https://127.0.0.1/a.jpg",
        "https://169.254.169.254/latest/meta-data/",
        "https://inside.example/",
        f"http://{NAME}/a.jpg",
        "file:///etc/passwd",
        f"https://me:secret@{NAME}/a.jpg",
        "//2130706433/",
        "https://[bad",
    ],
)
async def test_a_redirect_gets_nowhere_where_a_url_would_not(
    server: RemoteServer, network: FakeNetwork, to: str
) -> None:
    network.names["inside.example"] = [["10.0.0.1"]]
    server.answers["/r"] = redirect(to)
    error = await refusal(f"https://{NAME}/r", limits_of(network))
    assert error.code == "url_not_allowed"
    assert len(network.asked) == 1


async def test_redirects_without_end_are_cut(server: RemoteServer, network: FakeNetwork) -> None:
    server.answers["/r"] = redirect("/r")
    error = await refusal(f"https://{NAME}/r", limits_of(network))
    assert (error.code, len(server.heads)) == ("url_failed", 4)


async def test_headers_and_cookies_do_not_go_along_to_another_origin(
    server: RemoteServer, network: FakeNetwork
) -> None:
    answer = http(302, headers={"Location": "/again", "Set-Cookie": "a=b; Path=/"})
    server.answers["/r"] = answer
    server.answers["/again"] = redirect(f"https://{NAME}:80/a.jpg")
    await fetch(f"https://{NAME}/r", limits_of(network), headers={"Authorization": "Token s3cret"})
    assert ["s3cret" in head for head in server.heads] == [True, True, False]
    assert not any("cookie" in head.lower() for head in server.heads)


# A server of the operator's own


async def test_a_trusted_origin_may_be_inside() -> None:
    async with RemoteServer(tls=False) as server:
        server.answers["/data/1.jpg"] = http(body=JPEG)
        network = FakeNetwork(server)
        network.names["labels"] = [["10.0.0.1"]]
        limits = limits_of(network, trusted_origins=frozenset({"http://labels:8080"}))
        assert await fetch("http://labels:8080/data/1.jpg", limits) == JPEG
        error = await refusal("http://labels/data/1.jpg", limits)
        assert error.code == "url_not_allowed"


async def test_no_redirect_from_elsewhere_leads_to_a_trusted_origin(
    server: RemoteServer, network: FakeNetwork
) -> None:
    network.names["labels"] = [["10.0.0.1"]]
    server.answers["/r"] = redirect("https://labels:8080/api")
    limits = limits_of(network, trusted_origins=frozenset({"https://labels:8080"}))
    assert (await refusal(f"https://{NAME}/r", limits)).code == "url_not_allowed"
    assert len(network.asked) == 1


# What it may cost


@pytest.mark.parametrize("declared", [True, False])
async def test_a_large_file_is_cut_off(
    server: RemoteServer, network: FakeNetwork, declared: bool
) -> None:
    body = bytes(100_000)
    server.answers["/a.jpg"] = http(body=body) if declared else b"HTTP/1.1 200 OK\r\n\r\n" + body
    error = await refusal(URL, limits_of(network, max_bytes=50_000))
    assert (error.status, error.code) == (413, "url_too_large")
    assert error.details["limit"] == 50_000
    assert await fetch(URL, limits_of(network, max_bytes=100_000)) == body


async def test_bytes_are_told_as_they_come_and_the_caller_may_stop_them(
    server: RemoteServer, network: FakeNetwork
) -> None:
    def spend(number: int) -> None:
        raise TooLarge("body_too_large", f"{number} too many")

    assert (await refusal(URL, limits_of(network), spend=spend)).code == "body_too_large"


async def silent(writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    await asyncio.sleep(PATIENCE_S)


async def test_a_server_that_falls_silent_is_given_up(
    server: RemoteServer, network: FakeNetwork
) -> None:
    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(http(body=b"half", length=100))
        await silent(writer)

    for answer in (silent, half):
        server.answers["/a.jpg"] = answer
        error = await refusal(URL, limits_of(network, idle_s=0.05))
        assert (error.status, error.code) == (422, "url_failed")
        assert "silent" in error.message


async def test_a_server_that_drips_is_given_up(server: RemoteServer, network: FakeNetwork) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(http(body=b"", length=100))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    server.answers["/a.jpg"] = drip
    error = await refusal(URL, limits_of(network, total_s=0.2))
    assert "0.2 s" in error.message


async def test_a_resolver_without_an_answer_is_given_up() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(PATIENCE_S)
        return [PUBLIC]

    error = await refusal(URL, limits_of(Network(resolve=resolve), total_s=0.05))
    assert error.code == "url_failed"


# What goes wrong


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (http(404), "status 404"),
        (http(500), "status 500"),
        (http(302), "status 302"),
        (http(206, b"part"), "status 206"),
        (http(body=b"x", headers={"Content-Encoding": "gzip"}), "compresses"),
        (http(body=b"x", length=10), "broke off"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "HTTP"),
        (b"", "broke off"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "broke off"),
        (redirect("https://h:port/"), "no URL"),
    ],
)
async def test_what_is_no_file_is_this_urls_error(
    server: RemoteServer, network: FakeNetwork, answer: bytes, part: str
) -> None:
    server.answers["/a.jpg"] = answer
    error = await refusal(URL, limits_of(network))
    assert (error.status, error.code) == (422, "url_failed")
    assert part in error.message


async def test_a_certificate_is_checked(server: RemoteServer) -> None:
    error = await refusal(URL, limits_of(FakeNetwork(server, trusting=False)))
    assert (error.code, "certificate" in error.message) == ("url_failed", True)


async def test_a_certificate_of_another_name_is_refused(
    server: RemoteServer, network: FakeNetwork
) -> None:
    network.names["other.example"] = [[PUBLIC]]
    error = await refusal("https://other.example/a.jpg", limits_of(network))
    assert "certificate" in error.message
    assert server.heads == []


async def test_nobody_listens(server: RemoteServer, network: FakeNetwork) -> None:
    await server.__aexit__()
    assert "no connection" in (await refusal(URL, limits_of(network))).message


async def test_the_systems_resolver_is_asked_off_the_event_loop() -> None:
    error = await refusal("https://localhost/", limits_of(Network()))
    assert "no public address" in error.message
