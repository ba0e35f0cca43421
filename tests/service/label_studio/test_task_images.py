"""Where the pictures of tasks come from, and who gets Label Studio's token."""

import base64
import json

import httpx
import pytest

from service.errors import ApiError
from service.label_studio.images import TaskImages
from service.uploads.remote import Network, RemoteLimits

pytestmark = pytest.mark.anyio

URL = "http://label-studio:8080"
REFRESH = "head.body.signature"
ADDRESSES = {"label-studio": "10.0.0.5", "pictures.example": "93.184.215.14"}


class Web:
    """Both machines: what was asked of them, by Host and path, and with which token."""

    def __init__(self) -> None:
        self.answers: dict[str, httpx.Response] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.now = 0.0
        self.tokens = iter(("first", "second"))

    def limits(self) -> RemoteLimits:
        async def resolve(host: str, port: int) -> list[str]:
            if host not in ADDRESSES:
                raise OSError
            return [ADDRESSES[host]]

        network = Network(resolve=resolve, transport=lambda: httpx.MockTransport(self.handle))
        return RemoteLimits(network=network, schemes=frozenset({"http", "https"}))

    def handle(self, request: httpx.Request) -> httpx.Response:
        place = request.headers["host"] + request.url.raw_path.decode()
        self.asked.append((place, request.headers.get("authorization")))
        if request.method == "POST":
            assert json.loads(request.content) == {"refresh": REFRESH}
            return self.answers.get(place) or httpx.Response(
                200, json={"access": next(self.tokens)}
            )
        return self.answers.get(place) or httpx.Response(200, stream=httpx.ByteStream(b"bytes"))

    def images(self, **options: object) -> TaskImages:
        given: dict[str, object] = {"url": URL, "token": "legacy"} | options
        return TaskImages(self.limits(), clock=lambda: self.now, **given)  # type: ignore[arg-type]  # options of any kind


@pytest.fixture
def web() -> Web:
    return Web()


async def refusal(images: TaskImages, reference: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await images.get(reference)
    return caught.value


async def test_a_data_url_holds_the_bytes_themselves(web: Web) -> None:
    encoded = base64.b64encode(b"picture").decode()
    assert await web.images(url=None).get(f"data:image/png;base64,{encoded}") == b"picture"
    assert web.asked == []


@pytest.mark.parametrize("url", ["data:image/png,abc", "data:image/png;base64,*", "data:"])
async def test_a_broken_data_url_is_refused(web: Web, url: str) -> None:
    assert (await refusal(web.images(), url)).code == "invalid_base64"


async def test_a_path_is_fetched_from_label_studio_with_its_token(web: Web) -> None:
    assert await web.images().get("/data/upload/1/a%20b.jpg?d=x") == b"bytes"
    assert web.asked == [("label-studio:8080/data/upload/1/a%20b.jpg?d=x", "Token legacy")]


async def test_label_studio_named_in_full_gets_its_token_too(web: Web) -> None:
    await web.images().get("http://Label-Studio:8080/data/a.jpg")
    assert web.asked == [("label-studio:8080/data/a.jpg", "Token legacy")]


async def test_without_a_token_none_is_sent(web: Web) -> None:
    await web.images(token=None).get("/data/a.jpg")
    assert web.asked == [("label-studio:8080/data/a.jpg", None)]


@pytest.mark.parametrize("path", ["/data/a.jpg", "/annotate/data/a.jpg"])
async def test_behind_a_prefix_a_path_has_it_once(web: Web, path: str) -> None:
    await web.images(url=f"{URL}/annotate/").get(path)
    assert web.asked[0][0] == "label-studio:8080/annotate/data/a.jpg"


async def test_without_its_address_a_path_is_refused_with_what_to_set(web: Web) -> None:
    error = await refusal(web.images(url=None, token=None), "/data/a.jpg")
    assert error.code == "label_studio_url_missing"
    assert "--label-studio-url" in error.message


@pytest.mark.parametrize(
    "url",
    [
        "https://pictures.example/a.jpg",
        "http://label-studio/data/a.jpg",
        "https://label-studio:8080/data/a.jpg",
        "http://label-studio.evil.example:8080/a.jpg",
    ],
)
async def test_other_urls_are_refused_unless_they_are_allowed(web: Web, url: str) -> None:
    assert (await refusal(web.images(), url)).code == "urls_disabled"
    assert web.asked == []


async def test_allowed_urls_are_fetched_without_the_token(web: Web) -> None:
    assert await web.images(allow_urls=True).get("https://pictures.example/a.jpg") == b"bytes"
    assert web.asked == [("pictures.example/a.jpg", None)]


async def test_allowed_urls_keep_to_public_addresses(web: Web) -> None:
    error = await refusal(web.images(allow_urls=True), "http://label-studio/data/a.jpg")
    assert error.code == "url_not_allowed"


async def test_a_redirect_to_elsewhere_is_followed_only_where_urls_are_allowed(web: Web) -> None:
    web.answers["label-studio:8080/data/a.jpg"] = httpx.Response(
        302, headers={"Location": "https://pictures.example/signed.jpg"}
    )
    assert (await refusal(web.images(), "/data/a.jpg")).code == "url_not_allowed"
    web.asked.clear()
    assert await web.images(allow_urls=True).get("/data/a.jpg") == b"bytes"
    assert web.asked[-1] == ("pictures.example/signed.jpg", None)


@pytest.mark.parametrize(
    "reference",
    [
        None, 7, "", [], {"url": "/data/a.jpg"}, "s3://bucket/a.jpg", "file:///etc/passwd", "a.jpg",
        "//pictures.example/a.jpg", "../a.jpg", "ftp://pictures.example/a.jpg",
    ],
)  # fmt: skip
async def test_what_is_no_picture_of_a_task_is_refused(web: Web, reference: object) -> None:
    error = await refusal(web.images(allow_urls=True), reference)
    assert error.code == "invalid_task_image"
    assert web.asked == []


async def test_a_personal_token_buys_one_for_some_minutes(web: Web) -> None:
    images = web.images(token=REFRESH)
    for _ in range(2):
        await images.get("/data/a.jpg")
    web.now = 241.0
    await images.get("/data/a.jpg")
    refresh, get = "label-studio:8080/api/token/refresh", "label-studio:8080/data/a.jpg"
    assert web.asked == [
        (refresh, None),
        (get, "Bearer first"),
        (get, "Bearer first"),
        (refresh, None),
        (get, "Bearer second"),
    ]


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(401), httpx.Response(200, content=b"[]"), httpx.Response(200, content=b"<")],
)
async def test_a_personal_token_that_is_not_taken_is_an_error_of_the_picture(
    web: Web, answer: httpx.Response
) -> None:
    web.answers["label-studio:8080/api/token/refresh"] = answer
    error = await refusal(web.images(token=REFRESH), "/data/a.jpg")
    assert error.code == "url_failed"
    assert "--label-studio-token" in error.message


@pytest.mark.parametrize("path", ["/../secret", "/data/../../x.png", "/%2e%2e/x", "/data\\..\\x"])
async def test_a_path_that_leads_upwards_is_refused(web: Web, path: str) -> None:
    error = await refusal(web.images(url=f"{URL}/annotate"), path)
    assert "leads upwards" in error.message
    assert web.asked == []
