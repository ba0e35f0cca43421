"""What torch.save wrote comes back as torch.load gives it, without torch.load."""

import io
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_files import call, weights, write_pth

from models.checkpoints import read_checkpoint
from models.errors import CheckpointError

BASE = torch.arange(100.0).reshape(10, 10)


def tagged() -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "kept by torch"  # type: ignore[attr-defined]  # what makes it another pickle
    return parameter


TENSORS = {
    "whole": BASE,
    "turned": BASE.t(),
    "part": BASE[2:5, 3:],
    "one": BASE[0, 0],
    "repeated": BASE.expand(1, 10, 10),
    "empty": torch.empty(0, 3),
    "half": BASE.half(),
    "bfloat16": BASE.bfloat16(),
    "double": BASE.double(),
    "whole numbers": torch.arange(4),
    "bytes": torch.arange(4, dtype=torch.uint8),
    "flags": torch.tensor([True, False]),
    "parameter": torch.nn.Parameter(BASE.clone()),
    "tagged": tagged(),
}
NEWER = {"uint16": torch.arange(4).to(torch.uint16), "float8": BASE.to(torch.float8_e4m3fn)}


def assert_equal(path: Path) -> None:
    read = read_checkpoint(path).state_dict
    expected = torch.load(path, weights_only=True)["model"]
    assert list(read) == list(expected)
    for name, tensor in read.items():
        other = expected[name].detach()
        assert (tensor.dtype, tensor.stride()) == (other.dtype, other.stride()), name
        assert torch.equal(tensor.double(), other.double()), name
        assert not tensor.requires_grad


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_of_all_kinds(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pth"
    content = {"model": OrderedDict(TENSORS | NEWER)}
    torch.save(content, path, pickle_protocol=protocol)
    if protocol < 4:  # torch.load knows no others
        assert_equal(path)
    else:
        assert torch.equal(read_checkpoint(path).state_dict["part"], TENSORS["part"])


def test_tensors_of_all_kinds_in_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": TENSORS}, path, _use_new_zipfile_serialization=False)
    assert_equal(path)


def test_what_trainers_keep_beside_the_weights_is_passed_over(tmp_path: Path) -> None:
    model = torch.nn.Conv2d(3, 8, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 9, 9)).sum().backward()
    optimizer.step()
    beside: dict[str, Any] = {
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 4]).state_dict(),
        "odd": [
            {1, 2},
            bytearray(b"x"),
            1j,
            torch.Size([1]),
            torch.device("cuda:0"),
            torch.float16,
        ],
        "counts": Counter("aab"),
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.empty(2, device="meta"),
        "iteration": 7,
    }
    path = tmp_path / "model.pth"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()} | beside, path)
    checkpoint = read_checkpoint(path)
    assert (checkpoint.kind, checkpoint.iteration) == ("trainer .pth", 7)
    assert torch.equal(checkpoint.state_dict["weight"], model.weight)


def test_the_other_byte_order_is_turned_round(tmp_path: Path) -> None:
    path, file = tmp_path / "model.pth", io.BytesIO()
    torch.save({"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([3, 4])}, file)
    with zipfile.ZipFile(file) as little, zipfile.ZipFile(path, "w") as big:
        for name in little.namelist():
            data = little.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            if name.endswith("data/0"):
                data = data[3::-1] + data[:3:-1]
            if name.endswith("data/1"):
                data = data[7::-1] + data[:7:-1]
            big.writestr(name, data)
    read = read_checkpoint(path).state_dict
    assert (read["a"].tolist(), read["b"].tolist()) == ([1, -2], [3, 4])


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_odd_tensors_are_no_weights(tmp_path: Path, kind: str) -> None:
    tensors = {"sparse": torch.eye(2).to_sparse(), "meta": torch.empty(2, device="meta")}
    path = tmp_path / "model.pth"
    torch.save({"a": tensors[kind]}, path)
    with pytest.raises(CheckpointError, match=r"tensor a is a .* which cannot be a weight"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["_rebuild_qtensor", "_rebuild_nested_tensor"])
def test_tensors_that_pytorch_no_longer_makes_are_no_weights(tmp_path: Path, name: str) -> None:
    path = write_pth(tmp_path / "model.pth", weights(call("torch._utils", name)))
    with pytest.raises(CheckpointError, match=r"tensor a is a sparse, quantised or nested tensor"):
        read_checkpoint(path)
