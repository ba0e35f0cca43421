"""Pickles that want to run code, to take all memory, or to hang or crash the process."""

import io
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_files import (
    PROTOCOL_2,
    call,
    memory_of_at_most,
    number,
    numbers,
    storage,
    tensor,
    text,
    weights,
    write_pth,
)

from models.checkpoints import pickle_machine, read_checkpoint, unpickler
from models.errors import CheckpointError

KINDS = ["zoo.pkl", "new.pth", "old.pth"]


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    return caught.value.message


def write(folder: Path, kind: str, pickled: bytes) -> Path:
    """A file of that kind with ``pickled`` where its weights should be."""
    path = folder / kind
    if kind == "new.pth":
        return write_pth(path, pickled, data_0=bytes(4))
    if kind == "old.pth":
        file = io.BytesIO()
        torch.save({}, file, _use_new_zipfile_serialization=False)
        file.seek(0)
        for _ in range(3):  # the magic number, the protocol and the system come first
            list(pickletools.genops(file))
        pickled = file.getvalue()[: file.tell()] + pickled + pickle.dumps([], 2)
    path.write_bytes(pickled)
    return path


# --- code -----------------------------------------------------------------------------------------

NAMES = """
    os.system posix.system nt.system os.popen os.execv os.remove pty.spawn shutil.rmtree
    subprocess.Popen subprocess.run subprocess.call subprocess.check_output
    builtins.eval builtins.exec builtins.compile builtins.open builtins.getattr builtins.setattr
    builtins.__import__ builtins.globals builtins.map builtins.print builtins.breakpoint
    __builtin__.eval __builtin__.execfile __builtin__.apply __builtin__.file
    operator.attrgetter operator.methodcaller operator.itemgetter functools.partial functools.reduce
    importlib.import_module runpy.run_path runpy.run_module marshal.loads types.FunctionType
    types.CodeType codecs.decode codecs.open copyreg._reconstructor copyreg.add_extension
    pickle.loads _pickle.loads pickle.Unpickler shelve.open ctypes.CDLL socket.create_connection
    urllib.request.urlopen webbrowser.open pathlib.PosixPath logging.config.dictConfig
    torch.load torch.hub.load torch.hub.load_state_dict_from_url torch.jit.load torch.ops.load_library
    torch.storage._load_from_bytes torch._utils._import_dotted_name torch.utils.cpp_extension.load
    torch.nn.Module torch._C._set_tensor_metadata torch.serialization.load torch.from_file
    numpy.load numpy.save numpy.fromfile numpy.memmap numpy.f2py.compile numpy.frombuffer
    numpy.testing._private.utils.runstring numpy.core.multiarray.fromfile numpy.ndarray.tofile
    yaml.unsafe_load models.checkpoints.unpickler._encode models.load_config
""".split()  # noqa: SIM905  # a hundred quotes would hide what is there


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_no_name_that_runs_anything_is_looked_up(tmp_path: Path, name: str, kind: str) -> None:
    canary = tmp_path / "canary"
    module, _, last = name.rpartition(".")
    message = refusal(write(tmp_path, kind, weights(call(module, last, text(f"touch {canary}")))))
    assert f"The file refers to {name}, which is not allowed; nothing was executed." in message
    assert not canary.exists()


def placements(command: bytes) -> dict[str, bytes]:
    """The same call in the places where a reader might not look."""
    spell = call("os", "system", command)
    array = call("numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", b"N")
    dtype = call("numpy", "dtype", text("f4"))
    return {
        "a list": b"]" + spell + b"a",
        "a tuple in a dict": b"}" + text("x") + b"(" + spell + b"ts",
        "thrown away": spell + b"0N",
        "only remembered": spell + b"q\x000N",
        "a getattr chain": call(
            "builtins", "getattr", call("importlib", "import_module", text("os")), text("system")
        ),
        "the old instruction for an object": b"(" + command + b"ios\nsystem\n",
        "the other one": b"(cos\nsystem\n" + command + b"o",
        "a new object": b"cos\nsystem\n" + command + b"\x85\x81",
        "a new object by keywords": b"cos\nsystem\n" + command + b"\x85}\x92",
        "a name from the stack": text("os") + text("system") + b"\x93" + command + b"\x85R",
        "the state of a dict": b"ccollections\nOrderedDict\n)R}" + text("x") + spell + b"sb",
        "the argument of an allowed name": call("collections", "OrderedDict", spell),
        "the type of an array": array + b"(K\x01K\x01\x85" + spell + b"\x89C\x04abcdtb",
        "the content of an array": array + b"(K\x01K\x01\x85" + dtype + b"\x89" + spell + b"tb",
        "the shape of an array": array + b"(K\x01" + spell + dtype + b"\x89C\x04abcdtb",
        "a parameter": call("torch.nn.parameter", "Parameter", spell),
        "a storage": tensor(spell, 0, (1,), (1,)),
        "the type of a storage": tensor(
            b"(" + text("storage") + spell + text("0") + text("cpu") + number(1) + b"tQ",
            0, (1,), (1,),
        ),
        "the key of a storage": tensor(
            b"(" + text("storage") + b"ctorch\nFloatStorage\n" + spell + text("cpu") + number(1)
            + b"tQ", 0, (1,), (1,),
        ),
        "a persistent id": spell + b"Q",
        "a hook of a tensor": call(
            "torch._utils", "_rebuild_tensor_v2", storage("0", 1), number(0), numbers(1),
            numbers(1), b"\x89", spell,
        ),
        "what rebuilds a tensor": call(
            "torch._tensor", "_rebuild_from_type_v2", b"cos\nsystem\n", b"ctorch\nTensor\n",
            command + b"\x85", b"}",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", placements(b"N"))
def test_a_call_runs_in_no_place(tmp_path: Path, place: str, kind: str) -> None:
    canary = tmp_path / "canary"
    value = placements(text(f"touch {canary}"))[place]
    message = refusal(write(tmp_path, kind, weights(value)))
    assert "is not allowed" in message
    assert not canary.exists()


@pytest.mark.parametrize("number_of_pickle", range(5))
def test_none_of_an_old_files_pickles_may_call(tmp_path: Path, number_of_pickle: int) -> None:
    path, canary, file = tmp_path / "old.pth", tmp_path / "canary", io.BytesIO()
    torch.save({}, file, _use_new_zipfile_serialization=False)
    file.seek(0)
    parts = []
    for _ in range(5):
        start = file.tell()
        list(pickletools.genops(file))
        parts.append(file.getvalue()[start : file.tell()])
    spell = PROTOCOL_2 + call("os", "system", text(f"touch {canary}")) + b"."
    # The first one says what kind of file it is: the call comes on top of it.
    kept = parts[0][:-1] + b"0" if number_of_pickle == 0 else b""
    parts[number_of_pickle] = kept + spell.removeprefix(PROTOCOL_2 if kept else b"")
    path.write_bytes(b"".join(parts))
    assert "refers to os.system" in refusal(path)
    assert not canary.exists()


def test_an_array_of_objects_is_refused_whatever_its_type_claims(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    for dtype in (np.dtype("O"), np.dtype("V8"), np.dtype([("a", "O")])):
        path.write_bytes(pickle.dumps({"a": np.zeros(1, dtype)}, 2))
        assert "array of" in refusal(path)


def test_a_file_cannot_change_what_reads_the_next_one(tmp_path: Path) -> None:
    # NumPy's and Python's functions take attributes; so would ours, for the whole process.
    state = b"N}" + text("__defaults__") + text("rot13") + b"\x85s\x86b"
    for name in ("_codecs\nencode", "numpy\ndtype", "collections\nOrderedDict"):
        path = write(tmp_path, "zoo.pkl", weights(f"c{name}\n".encode() + state))
        assert "changes a Named, which is not allowed" in refusal(path)
    assert unpickler.ALLOWED["_codecs.encode"].__defaults__ == ("latin1",)  # type: ignore[attr-defined]  # a function


def test_a_file_cannot_replace_a_dicts_methods(tmp_path: Path) -> None:
    state = b"}" + text("get") + b"K\x01s" + text("items") + b"K\x01sb."
    path = write(tmp_path, "new.pth", PROTOCOL_2 + b"ccollections\nOrderedDict\n)R" + state)
    assert "holds no weights" in refusal(path)


# --- memory ---------------------------------------------------------------------------------------


def bombs() -> dict[str, bytes]:
    encode = b"c_codecs\nencode\nq\x00" + text("x" * 100_000) + b"\x85q\x01"
    doubling = b"]q\x00" + b"".join(b"](h\x00h\x00eq\x00" for _ in range(60))
    pairs = b"](" + b"](K\x01K\x02e" * 10_000 + b"e\x85q\x01"
    return {
        "a memo index of gigabytes": b"}r\xff\xff\xff\x7f",
        "a memo index in text": b"}p99999999999\n",
        "a text that claims 4 GiB": b"X\xff\xff\xff\xff",
        "bytes that claim 2**62": b"\x8e" + (1 << 62).to_bytes(8, "little") + b"x",
        "a bytearray that claims 2**40": b"\x96" + (1 << 40).to_bytes(8, "little"),
        "a frame that claims 2**62": b"\x95" + (1 << 62).to_bytes(8, "little") + b"N",
        "a number of 2 GiB": b"\x8b\xff\xff\xff\x7f",
        "a number of many bytes": b"\x8b\x00\x02\x00\x00" + b"\x7f" * 512,
        "a number of many digits": b"L" + b"9" * 100_000 + b"L\n",
        "a list doubled sixty times": doubling,
        "bytes that are encoded again and again": encode + b"0](" + b"h\x00h\x01R" * 50_000 + b"e",
        "a dict that is copied again and again": (
            b"ccollections\nOrderedDict\nq\x00" + pairs + b"0](" + b"h\x00h\x01R" * 50_000 + b"e"
        ),
        "a buffer from elsewhere": b"\x97",
        "an extension": b"\x82\x01",
        "torch.FloatTensor(2**30)": call("torch", "FloatTensor", number(1 << 30)),
        "torch.FloatStorage(2**30)": call("torch", "FloatStorage", number(1 << 30)),
        "torch.UntypedStorage(2**40)": call("torch.storage", "UntypedStorage", number(1 << 40)),
        "torch.Tensor(2**30)": call("torch", "Tensor", number(1 << 30)),
        "bytearray(2**40)": call("builtins", "bytearray", number(1 << 40)),
        "a type by a list that is doubled": b"cnumpy\ndtype\n" + doubling + b"\x85R",
        "an array whose shape is not there": call(
            "numpy.core.numeric", "_frombuffer", b"C\x04abcd",
            call("numpy", "dtype", text("f4")), numbers(1 << 40), text("C"),
        ),
        "an empty array of impossible sides": call(
            "numpy.core.numeric", "_frombuffer", b"C\x00",
            call("numpy", "dtype", text("f4")), numbers(0, (1 << 31) - 1, (1 << 31) - 1, 1 << 30),
            text("C"),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", bombs())
def test_a_small_file_takes_little_memory(tmp_path: Path, name: str, kind: str) -> None:
    path = write(tmp_path, kind, weights(bombs()[name]))
    with memory_of_at_most(48):
        message = refusal(path)
    assert len(message) < 2000


# --- time and the stack ---------------------------------------------------------------------------


def riddles() -> dict[str, bytes]:
    twice = b")q\x00" + b"h\x00h\x00\x86q\x00" * 100
    return {
        "a key nested 200,000 deep": b"})" + b"\x85" * 200_000 + b"K\x01s",
        "a key whose hash takes for ever": b"}" + twice + b"K\x01s",
        "a pair whose key does": call("collections", "OrderedDict", b"]" + twice + b"N\x86a"),
        "a set of it": call("builtins", "set", b"]" + twice + b"a"),
        "a list nested 200,000 deep": b"]" * 200_000 + b"a" * 199_999,
        "a dict nested 100,000 deep": (b"}" + text("x")) * 100_000 + b"N" + b"s" * 100_000,
        "a list in itself": b"]q\x00h\x00a",
        "marks in marks": b"(" * 200_000,
        "numbers of one hash": (
            b"}(" + b"".join(number((i << 61) - i) + b"N" for i in range(1, 4)) + b"u"
        ),
        "a name of a megabyte": b"}" + text("x" * (1 << 20)) + b"Ns",
        "an instruction that there is not": b"\xfe",
        "nothing on the stack": b"00000",
        "no mark": b"t",
        "a memo that was not written": b"hx",
        "a dict of uneven length": b"(Nd",
        "a key without a value": b"}(Nu",
        "an item for a number": b"K\x01Na",
        "a call of a number": b"K\x01)R",
        "half a surrogate pair": b"V\\ud800\n",
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", riddles())
def test_a_riddle_is_refused_at_once(tmp_path: Path, name: str, kind: str) -> None:
    message = refusal(write(tmp_path, kind, weights(riddles()[name])))
    assert len(message) < 2000
    message.encode()


def test_a_file_of_too_many_instructions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle_machine, "MAX_INSTRUCTIONS", 10_000)
    path = write(tmp_path, "zoo.pkl", weights(b"N0" * 10_000 + b"N"))
    assert "more than 10000 pickled values" in refusal(path)


def test_every_beginning_of_a_pickle_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    data = pickle.dumps({"model": {"a": np.arange(3, dtype=np.float32)}}, 2)
    for length in range(1, len(data)):
        path.write_bytes(data[:length])
        refusal(path)


def test_a_pickle_with_any_byte_replaced_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    data = pickle.dumps({"model": {"a": np.arange(3, dtype=np.float32)}}, 2)
    read = 0
    for position in range(len(data)):
        path.write_bytes(data[:position] + b"\x00R.\xff"[position % 4 :][:1] + data[position + 1 :])
        try:
            read_checkpoint(path)
            read += 1
        except CheckpointError:  # the one error that there may be
            pass
    assert 0 < read < len(data) / 2


def test_a_number_that_json_cannot_have_is_no_iteration(tmp_path: Path) -> None:
    array = call(
        "numpy.core.numeric", "_frombuffer", b"C\x04\0\0\0\0",
        call("numpy", "dtype", text("f4")), numbers(1), text("C"),
    )  # fmt: skip
    huge = b"\x8b" + struct.pack("<I", 32) + b"\x01" * 32
    pickled = PROTOCOL_2 + b"}" + text("model") + b"}" + text("a") + array + b"ss"
    path = write(tmp_path, "zoo.pkl", pickled + text("iteration") + huge + b"s.")
    assert read_checkpoint(path).iteration is None
