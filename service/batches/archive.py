"""The images in a zip file, read one by one where they are: nothing is written under their names.

A zip says of itself what is in it, and may lie. So its directory is bounded before it is parsed, what
it declares before anything is inflated, and what comes out while it does.
"""

from __future__ import annotations

import struct
import threading
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import ApiError, TooLarge, Unprocessable
from service.uploads.upload import clean_name

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_END = struct.Struct("<4s4H2LH")
_END_MAGIC, _END64_LOCATOR = b"PK\x05\x06", b"PK\x06\x07"
_LOCATOR_SIZE = 20
_MAX_COMMENT = 0xFFFF
_DIRECTORY_BYTES_EACH = 512  # a record has 46 and the name, perhaps times and owners
_ENCRYPTED = 0x1
MAX_RATIO = 250
"""How many times its packed size an image may have. Deflate itself can do 1000, pictures cannot."""
_RATIO_FROM_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """Bounds on one archive.

    Attributes:
        max_images: in it.
        max_image_bytes: of one image, unpacked.
        max_total_bytes: of all of them, unpacked.
    """

    max_images: int
    max_image_bytes: int
    max_total_bytes: int


class Archive:
    """An open zip. Folders are left out, and so is what systems add of their own.

    Args:
        path: of the file.
        limits: on what is in it.

    Raises:
        Unprocessable: ``invalid_archive``, ``no_images``.
        TooLarge: ``too_many_images``, ``archive_too_large``.
    """

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        _check_directory(path, limits)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
            raise _invalid(str(error)) from None
        try:
            self._members = [member for member in self._zip.infolist() if _is_wanted(member)]
            self._check_sizes()
        except BaseException:  # raised again, behind what it leaves
            self._zip.close()
            raise
        self.names: Sequence[str] = [
            clean_name(member.filename, index) for index, member in enumerate(self._members)
        ]

    def _check_sizes(self) -> None:
        limits, members = self._limits, self._members
        if not members:
            raise Unprocessable("no_images", "The archive holds no file.")
        if len(members) > limits.max_images:
            raise _too_many(len(members), limits)
        total = sum(member.file_size for member in members)
        if total > limits.max_total_bytes:
            raise TooLarge(
                "archive_too_large",
                f"The archive has {total} bytes unpacked; the limit is {limits.max_total_bytes}.",
                limit=limits.max_total_bytes,
                value=total,
            )

    def read(self, index: int) -> bytes:
        """The bytes of one image.

        Raises:
            ApiError: ``invalid_archive_entry``, ``image_file_too_large``: this entry's own fault.
            OSError: the file cannot be read.
        """
        member = self._members[index]
        problem = self._problem(member)
        if problem is not None:
            raise problem
        try:
            # One reader at a time: it has one place in the file.
            with self._lock, self._zip.open(member) as stream:
                data = stream.read(member.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise _invalid_entry("it is damaged") from None
        if len(data) != member.file_size:
            raise _invalid_entry("it has not the size that the archive says")
        return data

    def _problem(self, member: zipfile.ZipInfo) -> ApiError | None:
        """Why an entry is not read at all."""
        if member.flag_bits & _ENCRYPTED:
            return _invalid_entry("it is encrypted; pack it without a password")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return _invalid_entry("it is packed in a way that is not read; store or deflate it")
        if member.file_size > self._limits.max_image_bytes:
            return TooLarge(
                "image_file_too_large",
                f"The image file has {member.file_size} bytes; the limit is "
                f"{self._limits.max_image_bytes}.",
                limit=self._limits.max_image_bytes,
                value=member.file_size,
            )
        packed = max(member.compress_size, 1)
        if member.file_size > _RATIO_FROM_BYTES and member.file_size / packed > MAX_RATIO:
            return _invalid_entry(
                f"it unpacks to {member.file_size // packed} times its size; the limit is {MAX_RATIO}"
            )
        return None

    def close(self) -> None:
        """Close the file, behind whoever reads."""
        with self._lock:
            self._zip.close()


def _check_directory(path: Path, limits: ArchiveLimits) -> None:
    """Bound the directory by what the file's last record says: ``zipfile`` reads that much, at once."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _MAX_COMMENT - _END.size - _LOCATOR_SIZE))
        tail = file.read()
    # The same record that zipfile takes: at the very end, or the last one before a comment.
    start = len(tail) - _END.size
    if start < 0 or not (tail.startswith(_END_MAGIC, start) and tail.endswith(b"\0\0")):
        start = tail.rfind(_END_MAGIC)
    if start < 0 or start + _END.size > len(tail):
        raise _invalid("it has no end; was it cut short?")
    _, _, _, _, entries, directory_bytes, _, _ = _END.unpack_from(tail, start)
    if tail.startswith(_END64_LOCATOR, max(0, start - _LOCATOR_SIZE)):
        raise _invalid("it is a zip64 of more than 4 GiB or 65535 files; send several")
    # Folders count here too, so the exact bound comes behind the parsing.
    most = 2 * limits.max_images + 100
    if entries > most or directory_bytes > most * _DIRECTORY_BYTES_EACH:
        raise _too_many(entries, limits)


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    parts = member.filename.replace("\\", "/").split("/")
    if member.is_dir() or "__MACOSX" in parts or parts[-1] in ("Thumbs.db", "desktop.ini"):
        return False
    return not any(part.startswith(".") and part.strip(".") for part in parts)


def _invalid(reason: str) -> Unprocessable:
    return Unprocessable("invalid_archive", f"This zip cannot be used: {reason.rstrip('.')}.")


def _invalid_entry(reason: str) -> Unprocessable:
    return Unprocessable("invalid_archive_entry", f"This file of the zip cannot be used: {reason}.")


def _too_many(number: int, limits: ArchiveLimits) -> TooLarge:
    return TooLarge(
        "too_many_images",
        f"The archive holds {number} files; the limit is {limits.max_images}. Send several.",
        limit=limits.max_images,
        value=number,
    )
