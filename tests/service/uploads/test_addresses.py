"""Which URLs and addresses the server may follow."""

import pytest

from service.errors import ApiError
from service.uploads.addresses import host_matches, is_public, parse_target


@pytest.mark.parametrize(
    ("url", "host", "port", "origin"),
    [
        ("https://example.org/a.jpg", "example.org", 443, "https://example.org:443"),
        ("HTTPS://Example.ORG.:443/a.jpg#x", "example.org", 443, "https://example.org:443"),
        ("http://example.org:8080", "example.org", 8080, "http://example.org:8080"),
        ("https://münchen.example/", "xn--mnchen-3ya.example", 443, None),
        ("https://93.184.215.14/", "93.184.215.14", 443, "https://93.184.215.14:443"),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443, "https://[2606:4700::1111]:443"),
    ],
)
def test_a_url_is_read_once_and_for_all(url: str, host: str, port: int, origin: str | None) -> None:
    target = parse_target(url)
    assert (target.host, target.port) == (host, port)
    assert origin in (None, target.origin)
    assert "#" not in str(target.url)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("", "begins with https://"),
        ("//example.org/a.jpg", "begins with https://"),
        ("ftp://example.org/a.jpg", "begins with https://"),
        ("file:///etc/passwd", "begins with https://"),
        ("gopher://example.org/", "begins with https://"),
        ("https:///a.jpg", "begins with https://"),
        ("https://me@example.org/", "user or a password"),
        ("https://me:secret@example.org/", "user or a password"),
        ("https://exa mple.org/", "blank"),
        ("https://example.org\\@evil.example/", "backslash"),
        ("https://example.org/\r\nHost: x", "control character"),
        ("https://example.org/" + "a" * 2048, "2068 characters"),
        ("https://a..b/", "no valid host"),
        ("https://-a.example/", "no valid host"),
        ("https://%6c%6f%63%61%6c/", "no valid host"),
        ("https://2130706433/", "no plain address"),
        ("https://0x7f000001/", "no plain address"),
        ("https://0x7f.1/", "no plain address"),
        ("https://127.1/", "no plain address"),
        ("https://127.0.0.0x1/", "no plain address"),
        ("https://1.2.3.4.5/", "no plain address"),
        ("https://127.1./", "no plain address"),
        ("https://0177.0.0.1/", ""),
        ("https://127.0.0.01/", ""),
        ("https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/", ""),
        ("https://example.org:port/", "no valid URL"),
        ("https://[::1/", "no valid URL"),
    ],
)
def test_what_others_could_read_differently_is_no_url(url: str, part: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_target(url)
    assert (caught.value.status, caught.value.code) == (422, "url_not_allowed")
    assert part in caught.value.message


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111"])
def test_hosts_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.9", "192.0.2.1", "198.18.0.1",
        "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808",
        "64:ff9b:1::1", "2002:7f00:1::1", "2002:808:808::1", "2001::1", "2001:db8::1", "3fff::1",
        "100::1", "5f00::1", "2606:4700::1111%eth0", "", "localhost", "127.1",
    ],
)  # fmt: skip
def test_everything_else_is_not(address: str) -> None:
    assert not is_public(address)


def test_a_list_of_hosts_holds_names_and_all_below_a_name() -> None:
    patterns = ("pictures.example", "*.Bucket.example")
    assert host_matches("pictures.example", patterns)
    assert host_matches("a.b.bucket.example", patterns)
    for host in ("evil-bucket.example", "bucket.example", "a.pictures.example", "example"):
        assert not host_matches(host, patterns)
