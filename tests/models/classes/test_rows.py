"""Rows of other classes: what is copied, what new rows do before training, and that they learn."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.classes.rows import rearranged, start_score
from models.classes.tensors import ClassTensor, Role

K, C = 4, 6
SHUFFLED = (3, None, 0, 2, None, 1)  # two new classes among the old ones
OLD = [i for i, source in enumerate(SHUFFLED) if source is not None]
ORIGIN = [source for source in SHUFFLED if source is not None]
NEW = [i for i, source in enumerate(SHUFFLED) if source is None]


def layout(name: str, role: Role, **changes) -> ClassTensor:
    return ClassTensor(name, "stuff" if role == "semantic" else "things", role, K, **changes)


def layer(role: Role, sources=SHUFFLED, seed: int = 0, scale: float = 1.0, **changes):
    """A linear layer's weight and bias, and what becomes of them."""
    generator = torch.Generator().manual_seed(seed)
    rows = layout("x.weight", role, **changes).rows(K)
    old = [
        torch.randn(rows, C, generator=generator) * scale,
        torch.randn(rows, generator=generator) * scale,
    ]
    new = [
        rearranged(tensor, layout(f"x.{name}", role, **changes), sources)
        for tensor, name in zip(old, ("weight", "bias"), strict=True)
    ]
    return old, new


def features(count: int = 500, scale: float = 1.0) -> Tensor:
    return torch.randn(count, C, generator=torch.Generator().manual_seed(1)).relu() * scale


@pytest.mark.parametrize("role", ["boxes", "masks", "sigmoid", "dense", "softmax", "semantic"])
def test_old_rows_are_copied_bit_for_bit(role: Role) -> None:
    old, new = layer(role, background=role == "softmax")
    for before, after in zip(old, new, strict=True):
        assert torch.equal(after[OLD], before[ORIGIN])


def test_a_permutation_changes_nothing_but_the_order() -> None:
    old, new = layer("softmax", (2, 0, 3, 1), background=True)
    for before, after in zip(old, new, strict=True):
        assert torch.equal(after, before[[2, 0, 3, 1, 4]])


def test_the_background_stays_last() -> None:
    (weight, _), (new_weight, _) = layer("softmax", background=True)
    assert torch.equal(new_weight[-1], weight[-1])


def test_rows_of_one_class_stay_together() -> None:
    (weight, _), (new_weight, _) = layer("boxes", rows_per_class=4)
    assert torch.equal(new_weight.view(6, 4, C)[OLD], weight.view(K, 4, C)[ORIGIN])
    mean = weight.view(K, 4, C).mean(dim=0)
    torch.testing.assert_close(new_weight.view(6, 4, C)[NEW], torch.stack([mean, mean]))


def test_anchors_lie_outside_of_classes() -> None:
    (weight, _), (new_weight, _) = layer("dense", blocks=3)
    assert torch.equal(new_weight.view(3, 6, C)[:, OLD], weight.view(3, K, C)[:, ORIGIN])


def test_convolutions_have_more_dimensions() -> None:
    weight = torch.randn(3 * K, C, 3, 3)
    new = rearranged(weight, layout("x.weight", "dense", blocks=3), SHUFFLED)
    assert new.shape == (18, C, 3, 3)


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_a_softmax_gives_old_classes_the_same_scores(scale: float) -> None:
    (weight, bias), (new_weight, new_bias) = layer("softmax", background=True, scale=scale)
    x = features()
    before = F.linear(x, weight, bias).softmax(dim=1)
    after = F.linear(x, new_weight, new_bias).softmax(dim=1)
    assert float((after[:, OLD] - before[:, ORIGIN]).abs().max()) < 1e-5
    # New classes take theirs from the background, no more than they may.
    assert float(after[:, NEW].max()) <= 0.01 + 1e-6
    parts = after[:, NEW].sum(dim=1) + after[:, -1]
    torch.testing.assert_close(parts, before[:, -1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("role", ["sigmoid", "dense"])
def test_sigmoids_of_new_classes_are_the_prior_everywhere(role: Role) -> None:
    (weight, bias), (new_weight, new_bias) = layer(role)
    x = features(scale=100)
    after = F.linear(x, new_weight, new_bias).sigmoid()
    torch.testing.assert_close(after[:, NEW], torch.full((len(x), 2), 0.01))
    before = F.linear(x, weight, bias).sigmoid()
    torch.testing.assert_close(after[:, OLD], before[:, ORIGIN])


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_new_stuff_is_never_the_best(scale: float) -> None:
    (weight, bias), (new_weight, new_bias) = layer("semantic", scale=scale)
    x = features()
    before, after = F.linear(x, weight, bias), F.linear(x, new_weight, new_bias)
    origin = torch.tensor([-1 if source is None else source for source in SHUFFLED])
    assert torch.equal(origin[after.argmax(dim=1)], before.argmax(dim=1))
    assert float(after.softmax(dim=1)[:, NEW].sum(dim=1).max()) < 1e-4


@pytest.mark.parametrize("role", ["softmax", "sigmoid", "dense", "semantic"])
def test_new_classes_learn_from_the_first_step(role: Role) -> None:
    """On examples of theirs the gradient is that of a class that scores nothing: it does not vanish."""
    background = role in ("softmax", "sigmoid")
    _, (weight, bias) = layer(role, background=background)
    weight.requires_grad_()
    bias.requires_grad_()
    x = features()
    x = x / x.norm(dim=1, keepdim=True).clamp(min=1e-3)
    target = torch.full((len(x),), NEW[0])
    optimizer = torch.optim.SGD([weight, bias], lr=1.0)
    for step in range(60):
        logits = F.linear(x, weight, bias)
        if role in ("softmax", "semantic"):
            loss = F.cross_entropy(logits, target)
        else:
            loss = F.binary_cross_entropy_with_logits(
                logits, F.one_hot(target, logits.shape[1]).float(), reduction="none"
            ).sum() / len(x)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert weight.grad is not None
            assert float(weight.grad[NEW[0]].norm()) > 0.9 * float(x.mean(dim=0).norm())
        optimizer.step()
    wins = F.linear(x, weight, bias).argmax(dim=1) == NEW[0]
    assert float(wins.double().mean()) > 0.95


def test_many_new_classes_leave_the_background_most_of_its_score() -> None:
    made = layout("x.bias", "softmax", background=True)
    assert start_score(made, 1) == 0.01
    assert start_score(made, 1000) * 1000 == pytest.approx(0.1)
    (_, bias), (_, new_bias) = layer("softmax", (*range(K), *[None] * 1000), background=True)
    assert float(new_bias[-1] - bias[-1]) == pytest.approx(math.log(0.9), abs=1e-6)


def test_a_prior_of_its_own() -> None:
    _, (_, bias) = layer("dense", prior=0.1)
    torch.testing.assert_close(bias[NEW].sigmoid(), torch.tensor([0.1, 0.1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_stays(dtype: torch.dtype) -> None:
    tensor = torch.randn(K + 1, C).to(dtype)
    for name in ("x.weight", "x.bias"):
        new = rearranged(tensor, layout(name, "softmax", background=True), SHUFFLED)
        assert new.dtype == dtype
