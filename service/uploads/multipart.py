"""multipart/form-data, parsed in memory as it arrives: no temporary file and no thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, NoReturn

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.errors import BadRequest, TooLarge, Unprocessable
from service.uploads.body import iter_body
from service.uploads.json_body import too_many_images
from service.uploads.splitting import MalformedMultipart, MultipartSplitter
from service.uploads.upload import ParsedBody, Upload, UploadLimits, clean_name

IMAGE_FIELDS = frozenset({"images", "image", "files", "file"})
URL_FIELD = "url"
_HINT = "Send each image as a file in the field 'images', as in curl -F images=@photo.jpg."


async def read_multipart(request: Request, limits: UploadLimits) -> ParsedBody:
    """The files in the image fields and what ``url`` names, and the other fields as options (a list
    where repeated).

    Raises:
        BadRequest: ``malformed_multipart``.
        TooLarge: ``too_many_images``, ``too_many_fields``, ``field_too_large``.
        Unprocessable: ``no_images``, ``unknown_field`` for a file in another field.
        ApiError: as ``service.uploads.body.iter_body``.
    """
    form = Form(limits)
    async for _ in feed_form(request, form, limits):
        pass
    if not form.uploads:
        raise no_images()
    return ParsedBody(form.uploads, form.options)


async def feed_form(request: Request, form: Form, limits: UploadLimits) -> AsyncIterator[None]:
    """Feed the body to ``form``; stops after each chunk, so that what is complete can be taken away.

    Raises:
        BadRequest: ``malformed_multipart``.
        ApiError: what ``form`` raises, and as ``service.uploads.body.iter_body``.
    """
    _, parameters = parse_options_header(request.headers["content-type"])
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise _malformed("its Content-Type names no boundary")
    try:
        splitter = MultipartSplitter(
            boundary,
            form,
            max_headers=limits.max_part_headers,
            max_header_bytes=limits.max_part_header_bytes,
        )
        async for chunk in iter_body(request, limits):
            splitter.feed(chunk)
            yield
    except MalformedMultipart as error:
        raise _malformed(str(error)) from None
    if not splitter.ended:
        raise _malformed("it stops before its closing boundary")
    if not splitter.parts:
        raise _malformed("it has no parts")


def no_images() -> Unprocessable:
    """The answer to a form without an image."""
    return Unprocessable("no_images", f"The form holds no image. {_HINT}")


def _malformed(problem: str) -> BadRequest:
    return BadRequest("malformed_multipart", f"The multipart body is malformed: {problem}. {_HINT}")


class Form:
    """Collects the parts; raises as soon as a limit is passed.

    Args:
        limits: of the request.
        max_image_bytes: of one image; None: only the whole body is bounded.

    Attributes:
        uploads: those that are complete; they may be taken out.
        options: the other fields; a list where one is repeated.
    """

    def __init__(self, limits: UploadLimits, *, max_image_bytes: int | None = None) -> None:
        self.limits = limits
        self.uploads: list[Upload] = []
        self._max_image_bytes = max_image_bytes
        self._images = 0
        self.options: dict[str, Any] = {}
        self._fields = 0
        self._is_image = False
        self._is_url = False
        self._name = ""
        self._filename: str | None = None

    def begin_part(self, headers: Mapping[bytes, bytes]) -> int | None:
        _, parameters = parse_options_header(headers.get(b"content-disposition"))
        if b"name" not in parameters:
            raise _malformed("a part has no name in its Content-Disposition")
        # RFC 7578 drops transfer encodings; taking one for image bytes would only fail later.
        encoding = headers.get(b"content-transfer-encoding", b"binary").lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise _malformed("a part has a Content-Transfer-Encoding; send its bytes as they are")
        self._name = parameters[b"name"].decode(errors="replace").removesuffix("[]")
        filename = parameters.get(b"filename")
        self._filename = None if filename is None else filename.decode(errors="replace")
        self._is_image = self._name in IMAGE_FIELDS
        self._is_url = self._name == URL_FIELD and self._filename is None
        if self._is_image or self._is_url:
            if self._images >= self.limits.max_images:
                raise too_many_images(self.limits.max_images + 1, self.limits)
            return self._max_image_bytes if self._is_image else self.limits.max_field_bytes
        if self._filename is not None:
            name = clean_name(self._name, 0)
            raise Unprocessable("unknown_field", f"A file came in the field {name!r}. {_HINT}")
        self._count_field()
        return self.limits.max_field_bytes

    def part_too_large(self, size: int) -> NoReturn:
        limit = self._max_image_bytes if self._is_image else self.limits.max_field_bytes
        raise TooLarge(
            "field_too_large",
            f"The field {clean_name(self._name, 0)!r} has {size} bytes or more; the limit is {limit}.",
            limit=limit,
            value=size,
        )

    def end_part(self, data: bytes) -> None:
        if self._is_url:
            # What is no text is no URL either, and is told so.
            url = data.decode(errors="replace").strip()
            self._add(Upload.by_url(url, self._images, self.limits))
        elif not self._is_image:
            self._add_option(data)
        elif data or self._filename != "":
            self._add(Upload.of(clean_name(self._filename, self._images), data))
        else:
            # A browser sends an empty file name and no bytes for a file input that was left empty.
            self._count_field()

    def _add(self, upload: Upload) -> None:
        self._images += 1
        self.uploads.append(upload)

    def _count_field(self) -> None:
        self._fields += 1
        if self._fields > self.limits.max_fields:
            raise TooLarge(
                "too_many_fields",
                f"The form has {self._fields} fields or more; the limit is "
                f"{self.limits.max_fields}.",
                limit=self.limits.max_fields,
                value=self._fields,
            )

    def _add_option(self, data: bytes) -> None:
        try:
            value = data.decode()
        except UnicodeDecodeError:
            name = clean_name(self._name, 0)
            raise _malformed(f"the field {name!r} is not UTF-8 text") from None
        if self._name not in self.options:
            self.options[self._name] = value
        elif isinstance(self.options[self._name], list):
            self.options[self._name].append(value)
        else:
            self.options[self._name] = [self.options[self._name], value]
