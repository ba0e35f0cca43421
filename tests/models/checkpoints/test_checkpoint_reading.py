"""Reading weights files of every kind, and the reasons for which one is refused."""

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from models.checkpoints import read_checkpoint, sha256_of
from models.errors import CheckpointError

Save = Callable[[Any], Path]
WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    def save(value: Any) -> Path:
        path = tmp_path / "model_final.pth"
        torch.save(value, path)
        return path

    return save


@pytest.fixture
def pickled(tmp_path: Path) -> Save:
    def save(value: Any) -> Path:
        path = tmp_path / "model_final.pkl"
        path.write_bytes(pickle.dumps(value, protocol=2))
        return path

    return save


def assert_weights(state_dict: dict[str, torch.Tensor]) -> None:
    assert state_dict.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert torch.equal(state_dict[name], tensor)


def test_a_trainers_file_has_its_iteration(saved: Save) -> None:
    trainer = {"iteration": 99, "hooks": {"LRScheduler": {"_last_lr": [np.float64(0.1)]}}}
    checkpoint = read_checkpoint(saved({"model": WEIGHTS, "trainer": trainer, "iteration": 99}))
    assert_weights(checkpoint.state_dict)
    assert (checkpoint.kind, checkpoint.iteration) == ("trainer .pth", 99)
    assert checkpoint.matching_heuristics is False


def test_digest_and_size_are_those_of_the_file(saved: Save) -> None:
    path = saved(WEIGHTS)
    checkpoint = read_checkpoint(path)
    assert checkpoint.sha256 == sha256_of(path)
    assert len(checkpoint.sha256) == 64
    assert checkpoint.size_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (WEIGHTS, "PyTorch .pth"),
        (OrderedDict(WEIGHTS), "PyTorch .pth"),
        ({"model": WEIGHTS}, "PyTorch .pth"),
        ({"state_dict": WEIGHTS, "epoch": 3}, "PyTorch .pth"),
        ({"model_state": WEIGHTS}, "pycls .pyth"),
        ({"model": WEIGHTS, "optimizer": {"state": {}}}, "trainer .pth"),
        ({"model": {f"module.{name}": w for name, w in WEIGHTS.items()}}, "PyTorch .pth"),
        ({"model": {name: w.numpy() for name, w in WEIGHTS.items()}}, "PyTorch .pth"),
        ({"model": WEIGHTS, "iteration": np.int64(3)}, "trainer .pth"),
    ],
)
def test_weights_are_found_wherever_files_keep_them(saved: Save, value: Any, kind: str) -> None:
    checkpoint = read_checkpoint(saved(value))
    assert_weights(checkpoint.state_dict)
    assert checkpoint.kind == kind
    assert checkpoint.matching_heuristics == (kind == "pycls .pyth")


def test_the_format_before_pytorch_1_6_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"model": WEIGHTS}, path, _use_new_zipfile_serialization=False)
    assert_weights(read_checkpoint(path).state_dict)


def test_a_zoo_file_is_read(pickled: Save) -> None:
    arrays = {name: tensor.numpy() for name, tensor in WEIGHTS.items()}
    value = {"model": arrays, "__author__": "Detectron2 Model Zoo", "matching_heuristics": True}
    checkpoint = read_checkpoint(pickled(value))
    assert_weights(checkpoint.state_dict)
    assert checkpoint.kind == "model zoo .pkl"
    assert checkpoint.matching_heuristics is True


@pytest.mark.parametrize("count", [0, 1, 40])
def test_safetensors_are_read(tmp_path: Path, count: int) -> None:
    # The header's length is the file's first byte, and may look like a pickle's.
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(WEIGHTS, path, metadata={"note": "x" * count} if count else None)
    checkpoint = read_checkpoint(path)
    assert_weights(checkpoint.state_dict)
    assert checkpoint.kind == "safetensors"


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    torch.save(WEIGHTS, path)
    assert_weights(read_checkpoint(str(path)).state_dict)


def test_arrays_keep_their_precision_and_get_native_order(pickled: Save) -> None:
    arrays = {
        "half": np.ones(2, np.float16),
        "double": np.ones(2, np.float64),
        "big": np.arange(3, dtype=">f4"),
        "columns": np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
    }
    tensors = read_checkpoint(pickled({"model": arrays})).state_dict
    assert tensors["half"].dtype == torch.float16
    assert tensors["double"].dtype == torch.float64
    assert tensors["big"].tolist() == [0, 1, 2]
    assert tensors["columns"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_numbers_and_text_among_the_weights_are_left_out(saved: Save) -> None:
    checkpoint = read_checkpoint(saved({**WEIGHTS, "epoch": 3, "note": "best", "none": None}))
    assert_weights(checkpoint.state_dict)


# What is refused


class Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_pth_file_that_calls_the_shell_is_refused(saved: Save, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = saved({"model": WEIGHTS, "trainer": Runs(f"touch {canary}")})
    with pytest.raises(CheckpointError, match=r"refers to \w+\.system.*nothing was executed"):
        read_checkpoint(path)
    assert not canary.exists()


def test_an_old_pth_file_that_calls_the_shell_is_refused(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "old.pth"
    torch.save({"model": Runs(f"touch {canary}")}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"refers to \w+\.system"):
        read_checkpoint(path)
    assert not canary.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pkl_file_that_calls_the_shell_is_refused(tmp_path: Path, protocol: int) -> None:
    canary, path = tmp_path / "canary", tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": Runs(f"touch {canary}")}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"model\.pkl .*refers to \w+\.system"):
        read_checkpoint(path)
    assert not canary.exists()


def test_a_whole_pickled_model_is_refused(saved: Save) -> None:
    with pytest.raises(CheckpointError, match=r"refers to torch\.nn\.modules\.linear\.Linear"):
        read_checkpoint(saved(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>403</html>", "web page"),
        (b"<html><body>Not found</body></html>", "web page"),
        (b"\x00\x01random bytes that are nothing\xff", "none of the kinds.*00 01 72"),
        (b"hello, this is a text", "none of the kinds"),
        (b"\x80\x02}q\x00(X\x05\x00\x00\x00model", "cut off or damaged"),
        (b"PK\x03\x04not a zip", "cut off, damaged or not written by torch"),
        (b'\x40\x00\x00\x00\x00\x00\x00\x00{"a":', "safetensors file that was cut off"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{]", "safetensors file that is cut off or damaged"),
        (b"\x00" * 257 + b"ustar\x00", "tar file"),
        (pickle.dumps([1, 2]), "holds a list"),
        (pickle.dumps({"model": {}}), "holds no weights; its top level has: model"),
        (pickle.dumps({}), "holds no weights; its top level has: nothing"),
        (pickle.dumps({"epoch": 3, "lr": 0.1}), "holds no weights; its top level has: epoch, lr"),
        (pickle.dumps({"model": {3: 4}}), "under 3, which is not a name"),
        (pickle.dumps({"model": {"a": [1]}}), "entry a is a list, not a tensor"),
        (pickle.dumps({"blobs": {}}), "holds no weights; its top level has: blobs"),
        (pickle.dumps({"blobs": [1]}), "blobs are a list, not arrays by name"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_the_reason(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert caught.value.message.startswith("model.pth cannot be used as weights.")
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_file_that_was_cut_off_is_refused(saved: Save, keep: float) -> None:
    path = saved({"model": WEIGHTS})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError, match="cut off"):
        read_checkpoint(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights file 'missing\.pth'"):
        read_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.txt", "hello")
    with pytest.raises(CheckpointError, match="not written by torch"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(saved: Save, value: float) -> None:
    weights = {**WEIGHTS, "b.weight": torch.tensor([1.0, value])}
    with pytest.raises(CheckpointError, match=r"NaN or infinite weights in b\.weight") as caught:
        read_checkpoint(saved({"model": weights}))
    assert caught.value.details["not_finite"] == ["b.weight"]


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(saved: Save) -> None:
    huge = torch.zeros(1).expand(1 << 40)
    with pytest.raises(CheckpointError, match="claims more elements"):
        read_checkpoint(saved({"model": {"a": huge}}))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, dtype=torch.complex64),
        torch.empty(2, device="meta"),
    ],
    ids=["complex", "meta"],
)
def test_tensors_that_cannot_be_weights_are_refused(saved: Save, tensor: torch.Tensor) -> None:
    with pytest.raises(CheckpointError, match="tensor a"):
        read_checkpoint(saved({"model": {"a": tensor}}))


def test_an_object_array_is_refused(pickled: Save) -> None:
    with pytest.raises(CheckpointError, match="array of objects"):
        read_checkpoint(pickled({"model": {"a": np.array([None])}}))
