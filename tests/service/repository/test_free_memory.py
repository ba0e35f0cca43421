"""What the machine and its containers leave, read from files as the kernel writes them."""

from pathlib import Path

import pytest
import torch

from service.repository.free_memory import FreeMemory, free_device_memory, free_host_memory

GIB = 1 << 30


class Machine:
    """The kernel's files, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.cgroups = folder / "proc", folder / "cgroup"
        self.write(
            "proc/meminfo", f"MemTotal: {64 << 20} kB\nMemAvailable: {16 << 20} kB\n", folder
        )
        self.cgroups.mkdir()

    def write(self, name: str, text: str, folder: Path | None = None) -> None:
        path = (folder or self.cgroups) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def own(self, text: str) -> None:
        self.write("self/cgroup", text, self.proc)

    def group(self, name: str, limit: str, used: int, inactive: int = 0) -> None:
        self.write(f"{name}/memory.max", f"{limit}\n")
        self.write(f"{name}/memory.current", f"{used}\n")
        self.write(f"{name}/memory.stat", f"anon 1\ninactive_file {inactive}\n")

    def free(self) -> int | None:
        return free_host_memory(proc=self.proc, cgroups=self.cgroups)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_limits_it_is_what_the_kernel_calls_available(machine: Machine) -> None:
    assert machine.free() == 16 * GIB


def test_a_system_that_tells_nothing_is_unknown(tmp_path: Path) -> None:
    assert free_host_memory(proc=tmp_path, cgroups=tmp_path) is None


def test_a_limit_of_the_container_counts_without_the_files_that_it_keeps(machine: Machine) -> None:
    machine.own("0::/\n")
    machine.group(".", str(8 * GIB), used=5 * GIB, inactive=2 * GIB)
    assert machine.free() == 5 * GIB


def test_a_limit_of_a_group_further_out_counts_too(machine: Machine) -> None:
    machine.own("0::/kube/pod\n")
    machine.group("kube/pod", "max", used=GIB)
    machine.group("kube", str(4 * GIB), used=3 * GIB)
    assert machine.free() == GIB


def test_a_group_that_is_not_there_is_that_of_the_container(machine: Machine) -> None:
    machine.own("0::/docker/of-the-host\n")
    machine.group(".", str(2 * GIB), used=GIB)
    assert machine.free() == GIB


def test_a_group_over_its_limit_leaves_nothing(machine: Machine) -> None:
    machine.own("0::/\n")
    machine.group(".", str(GIB), used=2 * GIB)
    assert machine.free() == 0


def test_a_group_without_a_limit_limits_nothing(machine: Machine) -> None:
    machine.own("0::/\n")
    machine.group(".", "max", used=GIB)
    assert machine.free() == 16 * GIB


@pytest.mark.parametrize(("limit", "free"), [(4 * GIB, 3 * GIB), (9223372036854771712, 16 * GIB)])
def test_version_1_of_control_groups_is_read(machine: Machine, limit: int, free: int) -> None:
    machine.own("12:cpu,cpuacct:/docker/a\n9:memory:/docker/a\n")
    machine.write("memory/memory.limit_in_bytes", f"{limit}\n")
    machine.write("memory/memory.usage_in_bytes", f"{2 * GIB}\n")
    machine.write("memory/memory.stat", f"total_inactive_file {GIB}\n")
    assert machine.free() == free


def test_this_machine_tells_what_it_has() -> None:
    free = FreeMemory.read("cpu")
    assert free.device is None
    assert free.host is None or free.host > 0


def test_a_gpu_has_free_what_pytorch_holds_without_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 3 * GIB)
    assert free_device_memory("cuda:0") == 12 * GIB
