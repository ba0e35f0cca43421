"""subsample_labels: how many positives and negatives, and which."""

import pytest
import torch

from models import subsample_labels

BACKGROUND = 80


def labels(positives: int, negatives: int, ignored: int) -> torch.Tensor:
    values = [3] * positives + [BACKGROUND] * negatives + [-1] * ignored
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    return torch.tensor(values)[order]


@pytest.mark.parametrize(
    ("given", "num_samples", "fraction", "expected"),
    [
        pytest.param((50, 50, 9), 20, 0.25, (5, 15), id="enough of both"),
        pytest.param((2, 50, 9), 20, 0.25, (2, 18), id="few positives: more negatives"),
        pytest.param((50, 3, 9), 20, 0.25, (5, 3), id="few negatives: no more positives"),
        pytest.param((0, 50, 9), 20, 0.25, (0, 20), id="no positives"),
        pytest.param((0, 0, 9), 20, 0.25, (0, 0), id="only ignored"),
        pytest.param((0, 0, 0), 20, 0.25, (0, 0), id="nothing"),
        pytest.param((50, 50, 0), 10, 0.39, (3, 7), id="the fraction is rounded down"),
    ],
)
def test_positives_are_capped_and_negatives_fill_up(
    given: tuple[int, int, int], num_samples: int, fraction: float, expected: tuple[int, int]
) -> None:
    positive, negative = subsample_labels(labels(*given), num_samples, fraction, BACKGROUND)
    assert (len(positive), len(negative)) == expected


def test_indices_point_at_labels_of_their_kind_and_never_twice() -> None:
    values = labels(30, 30, 30)
    positive, negative = subsample_labels(values, 40, 0.5, BACKGROUND)
    assert values[positive].tolist() == [3] * 20
    assert values[negative].tolist() == [BACKGROUND] * 20
    assert len(set(positive.tolist())) == len(set(negative.tolist())) == 20


def test_class_0_is_a_positive_when_the_background_has_another_label() -> None:
    positive, negative = subsample_labels(torch.tensor([0, BACKGROUND]), 2, 0.5, BACKGROUND)
    assert (positive.tolist(), negative.tolist()) == ([0], [1])


def test_a_draw_follows_the_seed() -> None:
    values = labels(30, 30, 0)

    def draw(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return subsample_labels(values, 10, 0.5, BACKGROUND)[0].tolist()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
