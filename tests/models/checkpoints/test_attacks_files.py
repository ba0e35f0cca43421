"""Weights files that are no files, lie about their sizes, or change while they are read."""

import io
import json
import os
import socket
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_files import (
    memory_of_at_most,
    storage,
    tensor,
    weights,
    write_pth,
    write_sparse,
)

from models.checkpoints import read_checkpoint, reading, sha256_of
from models.checkpoints import torch_zip as zip_module
from models.errors import CheckpointError

ONE = bytes(4)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught, memory_of_at_most(48):
        read_checkpoint(path)
    return caught.value.message


# --- what is no regular file ----------------------------------------------------------------------


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        yield path


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    os.mkfifo(path)
    assert "it is a pipe" in refusal(path)
    (tmp_path / "link.pth").symlink_to(path)
    assert "it is a pipe" in refusal(tmp_path / "link.pth")
    with pytest.raises(OSError, match="it is a pipe"):
        sha256_of(path)


def test_a_socket_is_refused(listening: Path) -> None:
    assert "it is a socket" in refusal(listening)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom", "/dev/null", "/dev/tty"])
def test_a_device_is_refused_by_name_and_by_symlink(tmp_path: Path, device: str) -> None:
    assert "it is a device" in refusal(Path(device))
    (tmp_path / "model.pth").symlink_to(device)
    assert "it is a device" in refusal(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["mem", "environ", "maps", "fd/0", "cmdline", "pagemap"])
def test_what_a_process_tells_of_itself_is_no_weights(name: str) -> None:
    message = refusal(Path("/proc/self") / name)
    assert "empty" in message or "it is a" in message or "no weights file" in message


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "missing/../..", "model.pth/x", "loop"])
def test_a_path_that_leads_to_nothing_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.pth").touch()
    (tmp_path / "loop").symlink_to("loop")
    refusal(tmp_path / name)


# --- sizes that are not there ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pth", "model.pkl", "model.safetensors"])
def test_a_sparse_file_of_100_gb_is_refused_unread(tmp_path: Path, name: str) -> None:
    head = {"model.pth": b"PK\x03\x04", "model.pkl": b"\x80\x02}"}.get(
        name, b"\x40" + bytes(7) + b"{"
    )
    message = refusal(write_sparse(tmp_path / name, head=head))
    assert "has 107374182400 bytes, which is over the limit of" in message


@pytest.mark.parametrize(
    "head",
    [
        b"", b"PK\x03\x04", b"\x80\x02}", b"\x80\x02cos\n", b"S'", b"\x80\x02X\xff\xff\xff\x7f",
        b"\x80\x04\x8e\x00\x00\x00\x00\x40", b"\x00\x00\x00\x01\x00\x00\x00\x00{",
    ],
)  # fmt: skip
def test_a_sparse_file_below_the_limit_is_refused_by_its_beginning(
    tmp_path: Path, head: bytes
) -> None:
    refusal(write_sparse(tmp_path / "model", 24 << 20, head))


SHAPES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "more than there is": (0, (1 << 40,), (1,)),
    "one element a billion times": (0, (1 << 30,), (0,)),
    "behind the end": (1, (1,), (1,)),
    "far behind the end": (1 << 60, (1,), (1,)),
    "before the beginning": (-1, (1,), (1,)),
    "a stride that leads outside": (0, (2,), (1 << 40,)),
    "a stride that overflows": (0, (3, 3), (1 << 61, 1 << 61)),
    "a negative stride": (0, (1,), (-1,)),
    "a negative side": (0, (-1,), (1,)),
    "sides whose product overflows": (0, (1 << 32, 1 << 32), (1, 1)),
    "empty, of sides that overflow": (0, (0, 1 << 40, 1 << 40), (0, 0, 0)),
    "other sides than strides": (0, (1,), ()),
    "too many sides": (0, (1,) * 65, (1,) * 65),
    "sides beyond 64 bit": (0, (1 << 63,), (1,)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "old"])
def test_a_tensor_that_does_not_lie_in_its_storage_is_refused(
    tmp_path: Path, name: str, is_new: bool
) -> None:
    path, pickled = tmp_path / "model.pth", weights(tensor(storage("0", 1), *SHAPES[name]))
    write_pth(path, pickled, data_0=ONE) if is_new else write_old(path, pickled)
    assert "elements than the file" in (message := refusal(path)) or "impossible sides" in message


def write_old(
    path: Path, pickled: bytes, key: bytes = b"0", count: int = 1, data: bytes = ONE
) -> None:
    """A file from before PyTorch 1.6 of this pickle and one storage."""
    file = io.BytesIO()
    torch.save({}, file, _use_new_zipfile_serialization=False)
    start = file.getvalue().rindex(b"\x80\x02}q")  # the content is the last but one of its pickles
    pickled = pickled.replace(b"tQ", b"NtQ")  # of which the storages say whether they are views
    keys = b"\x80\x02]X\x01\x00\x00\x00" + key + b"a."
    path.write_bytes(file.getvalue()[:start] + pickled + keys + struct.pack("<q", count) + data)


def test_the_files_that_these_attacks_start_from_are_read(tmp_path: Path) -> None:
    pickled = weights(tensor(storage("0", 1), 0, (1,), (1,)))
    write_old(tmp_path / "old.pth", pickled, data=struct.pack("<f", 3))
    write_pth(tmp_path / "new.pth", pickled, data_0=struct.pack("<f", 3))
    for name in ("old.pth", "new.pth"):
        assert read_checkpoint(tmp_path / name).state_dict["a"].tolist() == [3]


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1 << 40}, {"count": -1}, {"count": 0}, {"key": b"1"}, {"data": b""}, {"data": b"\0"},
    ],
)  # fmt: skip
def test_an_old_files_storage_that_is_not_there_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = tmp_path / "model.pth"
    write_old(path, weights(tensor(storage("0", 1), 0, (1,), (1,))), **changes)
    assert "cut off, damaged" in refusal(path)


@pytest.mark.parametrize("numel", [0, 2, 1 << 40, (1 << 62) - 1, 1 << 62, -1])
def test_a_storage_of_another_size_than_its_entry_is_refused(tmp_path: Path, numel: int) -> None:
    pickled = weights(tensor(storage("0", numel), 0, (1,), (1,)))
    message = refusal(write_pth(tmp_path / "model.pth", pickled, data_0=ONE))
    assert "does not have in that size" in message or "describes a storage" in message


@pytest.mark.parametrize("key", ["1", "../data/0", "/etc/passwd", "0/../0", "", "x" * 1000])
def test_a_storage_is_looked_up_by_the_names_of_entries_alone(tmp_path: Path, key: str) -> None:
    pickled = weights(tensor(storage(key, 1), 0, (1,), (1,)))
    refusal(write_pth(tmp_path / "model.pth", pickled, data_0=ONE))


def test_one_storage_has_one_size_and_type(tmp_path: Path) -> None:
    for again in (storage("0", 2), storage("0", 1, "IntStorage")):
        both = tensor(storage("0", 1), 0, (1,), (1,)) + b"0" + tensor(again, 0, (1,), (1,))
        refusal(write_pth(tmp_path / "model.pth", weights(both), data_0=ONE))


def test_tensors_that_share_a_storage_too_often_are_refused(tmp_path: Path) -> None:
    shared = tensor(storage("0", 250_000), 0, (250_000,), (1,)) + b"q\x00"
    rest = b"".join(b"X\x04\x00\x00\x00%04dh\x00s" % i for i in range(1000))
    pickled = weights(shared)[:-1] + rest + b"."
    path = write_pth(tmp_path / "model.pth", pickled, data_0=bytes(1_000_000))
    assert "claim far more than the file holds" in refusal(path)


@pytest.mark.parametrize("kind", ["QInt8Storage", "ComplexFloatStorage", "QUInt4x2Storage"])
def test_storages_that_are_no_weights_are_refused(tmp_path: Path, kind: str) -> None:
    size = 8 if "Complex" in kind else 1
    pickled = weights(tensor(storage("0", 1, kind), 0, (1,), (1,)))
    path = write_pth(tmp_path / "model.pth", pickled, data_0=bytes(size))
    assert "quantised, complex or of another odd type" in refusal(path)


def test_what_is_no_weight_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So a trainer's file costs the memory of its weights, whatever its optimiser is.
    path, read = tmp_path / "model.pth", []
    torch.save({"model": {"a": torch.zeros(3)}, "optimizer": {"state": torch.zeros(5)}}, path)
    inner = zip_module.read_bytes

    def counted(file: Any, offset: int, size: int, *, swapped: int) -> torch.Tensor:
        read.append(size)
        return inner(file, offset, size, swapped=swapped)

    monkeypatch.setattr(zip_module, "read_bytes", counted)
    read_checkpoint(path)
    assert read == [12]


# --- zip ------------------------------------------------------------------------------------------


def pth_bytes() -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file)
    return file.getvalue()


def rewritten(change: Callable[[zipfile.ZipFile], None], mode: str = "a") -> bytes:
    """A good file whose zip was changed."""
    file = io.BytesIO(pth_bytes())
    with pytest.MonkeyPatch.context() as patch, zipfile.ZipFile(file, mode) as archive:  # type: ignore[call-overload]  # a mode of zipfile
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # of duplicates
        change(archive)
    return file.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../../evil", "archive/../../evil", "/etc/cron.d/evil", "archive/data/../../../x",
        "..\\..\\evil", "archive\\x", "C:\\evil",
    ],
)  # fmt: skip
def test_an_entry_that_leads_elsewhere_is_refused_and_nothing_is_unpacked(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "in" / "model.pth"
    path.parent.mkdir()
    path.write_bytes(rewritten(lambda archive: archive.writestr(name, b"evil")))
    assert "which torch.save does not write" in refusal(path)
    assert [entry.name for entry in tmp_path.rglob("*")] == ["in", "model.pth"]


@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/data/0", "archive/data.pkl\0x"])
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(rewritten(lambda archive: archive.writestr(name, b"\x80\x02N.")))
    assert "twice" in refusal(path)


@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/data/0", "archive/note"])
def test_a_zip_bomb_is_refused_packed_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(64 << 20))
    assert path.stat().st_size < 100_000
    assert "compressed or encrypted" in refusal(path)


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "model.pth", bytearray(pth_bytes())
    position = data.index(b"PK\x01\x02")
    data[position + 8] |= 1
    path.write_bytes(data)
    assert "compressed or encrypted" in refusal(path)


def test_a_zip_in_a_zip_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/model_final.pth", pth_bytes())
    assert "not written by torch.save" in refusal(path)


def test_torchscript_is_refused_and_its_code_does_not_run(tmp_path: Path) -> None:
    path, canary = tmp_path / "model.pt", tmp_path / "canary"
    code = f"import os\nos.system('touch {canary}')\n".encode()
    path.write_bytes(
        rewritten(
            lambda archive: [  # type: ignore[arg-type, return-value]  # nobody looks at it
                archive.writestr("archive/constants.pkl", b"\x80\x02)."),
                archive.writestr("archive/code/__torch__.py", code),
            ]
        )
    )
    assert "exported TorchScript program" in refusal(path)
    assert not canary.exists()


CENTRAL = {"size": (20, 4), "packed size": (24, 4), "offset": (42, 4), "name length": (28, 2)}


@pytest.mark.parametrize("field", CENTRAL)
@pytest.mark.parametrize("value", [0, 0x7FFF, 0x7FFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF])
def test_an_entry_that_lies_about_itself_is_refused(tmp_path: Path, field: str, value: int) -> None:
    path, data = tmp_path / "model.pth", bytearray(pth_bytes())
    offset, width = CENTRAL[field]
    # Of the storage, which is the fifth entry.
    position = data.index(b"PK\x01\x02")
    while data[position + 46 :][: len("archive/data/0")] != b"archive/data/0":
        position = data.index(b"PK\x01\x02", position + 4)
    data[position + offset : position + offset + width] = (value & (1 << 8 * width) - 1).to_bytes(
        width, "little"
    )
    path.write_bytes(data)
    refusal(path)


# Of the end of a directory, and of its larger form, which PyTorch writes.
END = {
    "size": (b"PK\x05\x06", 12, 4),
    "offset": (b"PK\x05\x06", 16, 4),
    "large size": (b"PK\x06\x06", 40, 8),
    "large offset": (b"PK\x06\x06", 48, 8),
}


@pytest.mark.parametrize("field", END)
@pytest.mark.parametrize("value", [1, 0x7FFF, 0x7FFFFFF0, 0xFFFFFFFE, (1 << 63) - 1, 1 << 63])
def test_a_directory_that_lies_about_itself_is_refused(
    tmp_path: Path, field: str, value: int
) -> None:
    path = tmp_path / "model.pth"
    signature, offset, width = END[field]
    write_pth(path, weights(tensor(storage("0", 1), 0, (1,), (1,))), data_0=ONE)
    data = bytearray(path.read_bytes() if width == 4 else pth_bytes())
    position = data.rindex(signature)
    value &= (1 << 8 * width) - 1
    data[position + offset : position + offset + width] = value.to_bytes(width, "little")
    path.write_bytes(data)
    refusal(path)


def test_a_directory_too_large_for_weights_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 20 << 20, 4, 0)
    path.write_bytes(b"PK\x03\x04")
    os.truncate(path, 4 + (20 << 20))
    with path.open("ab") as file:
        file.write(end)
    assert "too many entries" in refusal(path)


# --- safetensors ----------------------------------------------------------------------------------


def write_safetensors(
    path: Path, header: Any, data: bytes = ONE, claimed: int | None = None
) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(content) if claimed is None else claimed
    path.write_bytes(struct.pack("<Q", length) + content + data)
    return path


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HEADERS: dict[str, Any] = {
    "behind the end": {"a": entry([1], 4, 8)},
    "more than there is": {"a": entry([2], 0, 8)},
    "2**63": {"a": entry([1 << 61], 0, 1 << 63)},
    "beyond 64 bit": {"a": entry([1 << 70], 0, 1 << 70)},
    "overlapping": {"a": entry([1], 0, 4), "b": entry([1], 0, 4)},
    "with a hole": {"a": entry([0], 0, 0), "b": entry([1], 8, 12)},
    "backwards": {"a": entry([1], 4, 0)},
    "negative": {"a": entry([1], -4, 0)},
    "negative side": {"a": entry([-1], 0, 4)},
    "sides that overflow": {"a": entry([1 << 32, 1 << 32, 0, 4], 0, 4)},
    "another type": {"a": entry([1], 0, 4, "PICKLE")},
    "not all of the file": {"a": entry([0], 0, 0)},
    "no offsets": {"a": {"dtype": "F32", "shape": [1]}},
    "nested deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no object": b"{]",
    "not text": b'{"\xff": 1}',
    "a number": b"{1}",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    refusal(write_safetensors(tmp_path / "model.safetensors", HEADERS[name]))


@pytest.mark.parametrize(
    "claimed", [0, 1, 1 << 20, 1 << 24, (1 << 24) + 1, 1 << 31, 1 << 63, (1 << 64) - 1]
)
def test_a_safetensors_header_of_another_length_is_refused(tmp_path: Path, claimed: int) -> None:
    header = {"a": entry([1], 0, 4)}
    refusal(write_safetensors(tmp_path / "model.safetensors", header, claimed=claimed))


# --- while it is read -----------------------------------------------------------------------------


class Meddling:
    """Does something to the file when its weights are checked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
        inner = reading._check_finite

        def check(state_dict: Any) -> None:
            act()
            inner(state_dict)

        monkeypatch.setattr(reading, "_check_finite", check)


def saved(path: Path, kind: str) -> Path:
    if kind == "safetensors":
        return write_safetensors(path, {"a": entry([1], 0, 4)})
    if kind == "pth":
        torch.save({"a": torch.zeros(1 << 16)}, path)
    else:
        torch.save({"a": torch.zeros(1 << 16)}, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("kind", ["pth", "old", "safetensors"])
@pytest.mark.parametrize("act", ["shrinks", "is emptied", "grows", "is overwritten"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, act: str
) -> None:
    path = saved(tmp_path / "model.pth", kind)
    size = path.stat().st_size
    actions: dict[str, Callable[[], object]] = {
        "shrinks": lambda: os.truncate(path, size // 2),
        "is emptied": lambda: os.truncate(path, 0),
        "grows": lambda: os.truncate(path, size + 4096),
        "is overwritten": lambda: (path.write_bytes(bytes(size)), os.utime(path, ns=(1, 1))),
    }
    Meddling(monkeypatch, actions[act])
    assert "changed while it was read" in refusal(path)


@pytest.mark.parametrize("kind", ["pth", "old"])
def test_a_file_that_is_cut_before_its_weights_are_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = saved(tmp_path / "model.pth", kind)
    inner = reading._state_dict

    def cut(*arguments: Any) -> Any:
        os.truncate(path, path.stat().st_size // 2)
        return inner(*arguments)

    monkeypatch.setattr(reading, "_state_dict", cut)
    assert "became shorter while it was read" in refusal(path)


def test_weights_stay_when_their_file_goes(tmp_path: Path) -> None:
    # Of a file that is mapped into memory they would not: to touch them would end the process.
    for kind in ("pth", "old", "safetensors"):
        path = saved(tmp_path / kind, kind)
        checkpoint = read_checkpoint(path)
        os.truncate(path, 0)
        assert not checkpoint.state_dict["a"].any()


def test_a_file_that_is_replaced_is_read_and_hashed_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = saved(tmp_path / "model.pth", "pth"), tmp_path / "other.pth"
    torch.save({"a": torch.ones(3)}, other)
    before = sha256_of(path)
    Meddling(monkeypatch, lambda: os.replace(other, path))
    assert read_checkpoint(path).sha256 == before


def test_a_file_that_becomes_a_pipe_before_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "model.pth", "pth")
    inner = os.open

    def replaced(*arguments: Any) -> int:
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return inner(*arguments)

    monkeypatch.setattr(os, "open", replaced)
    assert "it is a pipe" in refusal(path)


def test_two_threads_read_at_once(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pth", "pth")
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda: digests.append(read_checkpoint(path).sha256))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [sha256_of(path)] * 4
