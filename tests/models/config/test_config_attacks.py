"""Configs that are no files, leave their folder, or want to take all time or memory."""

import os
from pathlib import Path

import pytest
from hostile_files import memory_of_at_most, write_sparse

from models.config import load_config
from models.errors import ConfigError, ModelError, PathNotAllowedError


def refusal(path: Path, root: Path | None = None) -> str:
    with pytest.raises(ModelError) as caught, memory_of_at_most(32):
        load_config(path, root=root)
    caught.value.message.encode()
    assert len(caught.value.message) < 2000
    return caught.value.message


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    assert "it is a pipe" in refusal(tmp_path / "config.yaml")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom", "/dev/tty"])
def test_a_device_is_refused(tmp_path: Path, device: str) -> None:
    (tmp_path / "config.yaml").symlink_to(device)
    assert "it is a device" in refusal(tmp_path / "config.yaml")


def test_a_sparse_file_of_100_gb_is_refused_by_its_size(tmp_path: Path) -> None:
    assert "larger than 1 MiB" in refusal(write_sparse(tmp_path / "config.yaml", head=b"A: 1\n"))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("pipe", "it is a pipe"),
        ("zero", "it is a device"),
        ("sparse.yaml", "larger than 1 MiB"),
        (".", "is a folder"),
        ("missing.yaml", "There is no config file"),
        ("config.yaml/x", "There is no config file"),
        ("loop", "There is no config file"),
    ],
)
def test_a_base_is_opened_as_carefully(tmp_path: Path, base: str, message: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    write_sparse(tmp_path / "sparse.yaml")
    (tmp_path / "config.yaml").write_text(f"_BASE_: {base}\n")
    assert message in refusal(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "base",
    [
        "../outside.yaml", "a/../../outside.yaml", "/etc/passwd", "~/config.yaml", "link.yaml",
        "folder/outside.yaml", "/proc/self/environ", "/dev/zero", "zero",
    ],
)  # fmt: skip
def test_a_base_that_leaves_the_root_is_not_opened(tmp_path: Path, base: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.yaml").write_text("MODEL: {MASK_ON: true}")
    (root / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (root / "folder").symlink_to(tmp_path)
    (root / "zero").symlink_to("/dev/zero")
    (root / "config.yaml").write_text(f"_BASE_: {base}\n")
    with pytest.raises(PathNotAllowedError, match="outside the model folder"):
        load_config(root / "config.yaml", root=root)


@pytest.mark.parametrize("scheme", ["http", "https", "file", "ftp", "s3", "detectron2", "catalog"])
@pytest.mark.parametrize("with_root", [True, False])
def test_a_base_that_is_an_address_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, with_root: bool
) -> None:
    def connect(*arguments: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", connect)
    (tmp_path / "config.yaml").write_text(f"_BASE_: {scheme}://127.0.0.1/base.yaml\n")
    message = refusal(tmp_path / "config.yaml", tmp_path if with_root else None)
    assert "configs are not downloaded" in message


@pytest.mark.parametrize(
    "text",
    [
        "A: 1" + ":1" * 20_000,
        "A: 1" + ":1" * 20_000 + ".5",
        "A: 0x" + "f" * 20_000,
        "A: 0b" + "1" * 20_000,
        "A: " + "9" * 20_000,
        "MODEL: {ROI_HEADS: {NUM_CLASSES: 0x" + "f" * 5000 + "}}",
        "A: 1." + "1" * 20_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_number_that_takes_for_ever_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert "it is too long" in refusal(tmp_path / "config.yaml")


@pytest.mark.parametrize("text", [r'A: "\ud800"', r'"\udfff": 1', r'_BASE_: "\ud800.yaml"'])
def test_half_a_character_is_refused_in_words_that_can_be_sent(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert "half of a surrogate pair" in refusal(tmp_path / "config.yaml")


def test_a_zero_byte_in_a_base_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(r'_BASE_: "a\0b"')
    with pytest.raises(ConfigError, match="no config file"):
        load_config(tmp_path / "config.yaml")
