"""The restricted unpickler: what a zoo file may hold, and that nothing else runs."""

import builtins
import io
import os
import pickle
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.checkpoints.unpickler import ALLOWED, PickledArray, restricted_load
from models.errors import CheckpointError


class Runs:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def load(value: Any, protocol: int) -> Any:
    return restricted_load(io.BytesIO(pickle.dumps(value, protocol=protocol)))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_file_that_calls_the_shell_is_refused(protocol: int, canary: Path) -> None:
    with pytest.raises(CheckpointError, match=r"refers to \w+\.system, .*nothing was executed"):
        load({"model": Runs(os.system, f"touch {canary}")}, protocol)
    assert not canary.exists()


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_file_that_evaluates_text_is_refused(protocol: int, canary: Path) -> None:
    with pytest.raises(CheckpointError, match=r"refers to (__builtin__|builtins)\.eval"):
        load([Runs(builtins.eval, f"open({str(canary)!r}, 'w')")], protocol)
    assert not canary.exists()


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_call_inside_an_object_array_is_refused(protocol: int, canary: Path) -> None:
    with pytest.raises(CheckpointError):
        load(np.array([Runs(os.system, f"touch {canary}")], dtype=object), protocol)
    assert not canary.exists()


@pytest.mark.parametrize(
    "value",
    [Counter("a"), Path("x"), np.float32, getattr, Runs(np.load, "x"), Runs(np.frombuffer, b"x")],
)
def test_every_name_off_the_list_is_refused(value: Any) -> None:
    with pytest.raises(CheckpointError, match="which is not allowed"):
        load(value, 4)


def test_a_dotted_name_cannot_walk_out_of_an_allowed_one() -> None:
    payload = b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93."
    with pytest.raises(CheckpointError, match=r"refers to numpy\.ndarray\.__new__"):
        restricted_load(io.BytesIO(payload))


def test_the_list_holds_stand_ins_and_never_numpy_itself() -> None:
    assert {function.__module__ for function in ALLOWED.values()} == {
        "models.checkpoints.unpickler"
    }


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        np.arange(12, dtype=np.float16)[::2],
        np.arange(4, dtype=">f4"),
        np.array(3, dtype=np.int64),
        np.array([True, False]),
        np.zeros((0, 4), np.float32),
    ],
    ids=["float32", "fortran", "strided float16", "big endian", "0-d", "bool", "empty"],
)
def test_arrays_come_back_equal_in_native_order(array: np.ndarray, protocol: int) -> None:
    result = load({"model": OrderedDict(weight=array)}, protocol)["model"]["weight"]
    assert isinstance(result, PickledArray)
    assert result.array is not None
    np.testing.assert_array_equal(result.array, array)
    assert result.array.dtype == array.dtype.newbyteorder("=")
    assert result.array.flags.c_contiguous
    assert result.array.flags.writeable


@pytest.mark.parametrize("protocol", [2, 5])
def test_numpy_scalars_are_numbers(protocol: int) -> None:
    values = [np.float64(0.5), np.int64(7), np.bool_(True)]
    assert load(values, protocol) == [0.5, 7, True]


@pytest.mark.parametrize("name", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_names_of_both_numpy_generations_are_known(name: str) -> None:
    data = pickle.dumps(np.arange(3, dtype=np.float32), protocol=2)
    data = data.replace(b"numpy._core.multiarray", name.encode())
    np.testing.assert_array_equal(restricted_load(io.BytesIO(data)).array, [0, 1, 2])


def test_text_of_python_2_is_the_bytes_that_it_was() -> None:
    # An array as Python 2 wrote it: its data is a SHORT_BINSTRING.
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x80\xbftb."
    )
    np.testing.assert_array_equal(restricted_load(io.BytesIO(data)).array, [1.0, -1.0])


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a"]),
        np.array([None]),
        np.zeros(1, dtype=[("a", "f4")]),
        np.array([1j]),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ],
    ids=["text", "object", "structured", "complex", "date"],
)
def test_arrays_that_cannot_be_weights_are_refused(array: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match=r"array of (the type|objects)"):
        load(array, 2)


def test_an_array_whose_data_is_of_another_length_is_refused() -> None:
    data = pickle.dumps(np.arange(3, dtype=np.float32), protocol=2)
    assert b"K\x03\x85" in data
    with pytest.raises(CheckpointError, match="data is of another length"):
        restricted_load(io.BytesIO(data.replace(b"K\x03\x85", b"K\x7f\x85")))
