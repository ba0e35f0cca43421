"""Seeds, options, the window of figures, files that are whole, the wish to stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from models.errors import CheckpointError, ConfigError
from models.training.distributed import World, world_from_environment
from models.training.options import TrainingOptions
from models.training.saving import save_checkpoint, write_json
from models.training.seeds import mixed_seed
from models.training.stopping import Stopping
from models.training.window import Window


def test_seeds_depend_on_every_number_and_on_their_order() -> None:
    seeds = {mixed_seed(*numbers) for numbers in [(0,), (1,), (0, 1), (1, 0), (0, 0, 1), (1, 1)]}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mixed_seed(3, 4) == mixed_seed(3, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"ema_decay": 1.0},
        {"eval_period": 0},
        {"workers": -1},
        {"learning_rates": {"backbone": -0.5}},
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TrainingOptions(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_options_come_back_from_json() -> None:
    options = TrainingOptions(seed=4, learning_rates={"backbone": 0.1}, ema_decay=0.99)
    assert TrainingOptions.from_dict(options.to_dict()) == options


def test_a_window_is_the_mean_of_its_iterations() -> None:
    window = Window(torch.device("cpu"))
    window.add({"loss": torch.tensor(1.0), "lr": 0.5})
    window.add({"loss": torch.tensor(3.0), "lr": 0.5})
    assert window.means(World()) == {"loss": 2.0, "lr": 0.5}
    assert window.means(World()) == {}


def test_what_some_iterations_lack_is_the_mean_of_the_others() -> None:
    window = Window(torch.device("cpu"))
    window.add({"loss": torch.tensor(1.0), "accuracy": torch.tensor(0.5), "samples": 4})
    window.add({"loss": torch.tensor(3.0)})
    assert window.means(World()) == {"loss": 2.0, "accuracy": 0.5, "samples": 4.0}


def test_a_window_goes_on_where_another_stopped() -> None:
    first, second = Window(torch.device("cpu")), Window(torch.device("cpu"))
    first.add({"loss": torch.tensor(1.0)})
    second.load_state_dict(first.state_dict())
    second.add({"loss": torch.tensor(2.0)})
    assert second.means(World()) == {"loss": 1.5}


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, {"a": 1})
    (tmp_path / f".last.pth.{os.getpid()}.writing").mkdir()
    with pytest.raises(CheckpointError, match="The one before is whole"):
        save_checkpoint(path, {"a": 2})
    assert torch.load(path, weights_only=True) == {"a": 1}


def test_json_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": [1, 2]})
    write_json(path, {"a": []})
    assert path.read_text() == '{\n "a": []\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_the_first_signal_asks_and_the_second_ends() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stopping() as stopping:
        assert not stopping.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert stopping.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_torchrun_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert world_from_environment() == World()
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert world_from_environment() == World(1, 2, 1)
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ConfigError, match="torchrun"):
        world_from_environment()
