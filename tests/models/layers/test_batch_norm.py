"""Norms by name, frozen batch norm, and freezing what has batch norms inside."""

import pytest
import torch
from torch import nn

from models.errors import ConfigError
from models.layers import FrozenBatchNorm2d, get_norm
from models.layers.batch_norm import LevelBatchNorm2d
from models.layers.blocks import frozen_batch_norms


def filled_(norm: nn.Module) -> nn.Module:
    """Statistics and affine values that are all different. In place."""
    generator = torch.Generator().manual_seed(0)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name).data.uniform_(0.5, 2.0, generator=generator)
    return norm


def test_frozen_batch_norm_follows_its_formula() -> None:
    norm = filled_(FrozenBatchNorm2d(5, eps=1e-3))
    x = torch.randn(2, 5, 4, 3)
    column = [
        value.view(1, -1, 1, 1)
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    ]
    mean, var, weight, bias = column
    expected = (x - mean) / torch.sqrt(var + 1e-3) * weight + bias
    torch.testing.assert_close(norm(x), expected)


def test_frozen_batch_norm_holds_buffers_and_no_parameters() -> None:
    norm = FrozenBatchNorm2d(5)
    assert list(norm.parameters()) == []
    assert set(norm.state_dict()) == {"weight", "bias", "running_mean", "running_var"}


def test_frozen_batch_norm_does_not_change_in_training() -> None:
    norm = filled_(FrozenBatchNorm2d(5)).train()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(torch.randn(2, 5, 4, 3))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_frozen_batch_norm_of_no_regions_is_empty() -> None:
    assert FrozenBatchNorm2d(5)(torch.zeros(0, 5, 4, 3)).shape == (0, 5, 4, 3)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BN", nn.BatchNorm2d),
        ("SyncBN", nn.SyncBatchNorm),
        ("naiveSyncBN", nn.BatchNorm2d),
        ("FrozenBN", FrozenBatchNorm2d),
        ("GN", nn.GroupNorm),
    ],
)
def test_a_norm_is_known_by_its_name_and_runs_on_the_cpu(name: str, kind: type[nn.Module]) -> None:
    norm = get_norm(name, 64)
    assert type(norm) is kind
    assert norm.eval()(torch.randn(2, 64, 3, 3)).shape == (2, 64, 3, 3)


def test_group_norm_has_32_groups() -> None:
    assert get_norm("GN", 64).num_groups == 32


@pytest.mark.parametrize("name", ["", None])
def test_no_name_is_no_norm(name: str | None) -> None:
    assert get_norm(name, 8) is None


def test_a_norm_can_be_any_callable() -> None:
    assert isinstance(get_norm(nn.InstanceNorm2d, 8), nn.InstanceNorm2d)


def test_an_unknown_norm_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="Unknown norm 'XN'; known: BN, SyncBN"):
        get_norm("XN", 8)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_freezing_a_batch_norm_keeps_what_it_computes(kind: type[nn.Module]) -> None:
    norm = filled_(kind(5, eps=1e-3)).eval()
    frozen = frozen_batch_norms(norm)
    x = torch.randn(2, 5, 4, 3)
    assert isinstance(frozen, FrozenBatchNorm2d)
    torch.testing.assert_close(frozen(x), norm(x))


def test_freezing_replaces_batch_norms_at_any_depth() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    assert frozen_batch_norms(module) is module
    assert isinstance(module[1][0], FrozenBatchNorm2d)


def test_freezing_a_batch_norm_without_affine_values_gives_ones_and_zeros() -> None:
    frozen = frozen_batch_norms(nn.BatchNorm2d(3, affine=False))
    assert frozen.weight.tolist() == [1, 1, 1]
    assert frozen.bias.tolist() == [0, 0, 0]


def test_a_batch_norm_without_statistics_cannot_be_frozen() -> None:
    with pytest.raises(ValueError, match="without running statistics"):
        frozen_batch_norms(nn.BatchNorm2d(3, track_running_stats=False))


def test_levels_share_affine_values_and_have_statistics_of_their_own() -> None:
    names = set(LevelBatchNorm2d(2, 5).state_dict())
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert names == {"weight", "bias"} | {f"{i}.{name}" for i in (0, 1) for name in statistics}


def test_each_level_is_normalised_by_its_statistics() -> None:
    norm = LevelBatchNorm2d(2, 3).eval()
    for level, mean in enumerate((1.0, 5.0)):
        norm[level].running_mean.fill_(mean)
        norm[level].running_var.fill_(4.0)
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0])
    norm.bias.data = torch.tensor([0.0, 0.5, 1.0])
    x = torch.randn(2, 3, 4, 4)
    for level, mean in enumerate((1.0, 5.0)):
        expected = (x - mean) / (4.0 + 1e-5) ** 0.5
        expected = expected * torch.tensor([1.0, 2, 3])[:, None, None]
        expected = expected + torch.tensor([0.0, 0.5, 1.0])[:, None, None]
        torch.testing.assert_close(norm(x, level), expected)


def test_levels_do_not_touch_each_others_statistics_in_training() -> None:
    norm = LevelBatchNorm2d(2, 3).train()
    norm(torch.randn(2, 3, 4, 4) + 7, 1)
    assert not norm[0].running_mean.any()
    assert norm[1].running_mean.all()
