"""Tables, curves, the confusion matrix and the gallery of a report."""

import re

import pytest

from models.evaluation import CocoDataset, DetailedResult
from models.evaluation.comparison import compare
from models.evaluation.detail import BestThreshold, Confusion, Curve
from models.evaluation.report.compared import Against, compared_sections
from models.evaluation.report.confusion_matrix import (
    MOST_CLASSES,
    confusion_body,
    confusions_table,
    left_out,
    matrix_svg,
)
from models.evaluation.report.curves import large_curve, small_curve
from models.evaluation.report.figures import class_tables, curve_plots, overall_table, tiles
from models.evaluation.report.gallery import Gallery
from models.evaluation.report.tables import bar_cell, change_cell, number, table


def confusion(number: int) -> Confusion:
    """Everything right but for one mistake of each class, the last ones with more."""
    matrix = [[0] * (number + 1) for _ in range(number + 1)]
    for i in range(number):
        matrix[i][i] = 10
        matrix[i][(i + 1) % number] += 1 + i
    names = tuple(f"class {i}" for i in range(number))
    return Confusion(names, tuple(map(tuple, matrix)), 0.5, 0.5)


CURVE = Curve(
    recall=tuple(i / 100 for i in range(101)),
    precision={
        "0.5": (1.0,) * 51 + (0.0,) * 50,
        "0.75": (0.5,) * 101,
        "0.5:0.95": (0.25,) * 101,
    },
    scores=(0.5,) * 101,
)


def test_a_figure_that_was_not_measured_is_a_dash_and_sorted_last() -> None:
    assert number(None) == "–"  # noqa: RUF001  # an en dash is meant
    assert bar_cell(None).value is None
    assert '<td data-value="">–</td>' in table(["a"], [[bar_cell(None)]])  # noqa: RUF001  # likewise


@pytest.mark.parametrize(("value", "tone"), [(2.0, "good"), (-2.0, "bad"), (0.0, "soft")])
def test_a_change_has_its_sign_and_its_tone(value: float, tone: str) -> None:
    cell = change_cell(value, 4.0)
    assert f'<span class="{tone}">{value:+.1f}</span>' in cell.html
    assert cell.value == value


def test_a_change_goes_to_its_side_of_the_middle() -> None:
    assert 'x="16.0" y="1" width="16.0"' in change_cell(-2.0, 4.0).html
    assert 'x="32.0" y="1" width="16.0"' in change_cell(2.0, 4.0).html


def test_a_curve_that_is_level_has_few_points() -> None:
    svg = large_curve(CURVE, "title")
    points = re.findall(r'<polyline class="line (\w+)" points="([^"]+)"', svg)
    counts = {kind: len(path.split()) for kind, path in points}
    assert counts == {"mean": 2, "iou75": 2, "iou50": 4}


def test_the_best_threshold_is_a_dot_with_its_figures() -> None:
    best = BestThreshold(score=0.42, f1=0.5, precision=1.0, recall=0.5, iou_threshold=0.5)
    assert "at a threshold of 0.42: precision 1.00" in small_curve(CURVE, "cat", best)
    assert "<circle" not in small_curve(CURVE, "cat", None)


def test_a_few_classes_have_their_numbers_in_the_cells() -> None:
    svg = matrix_svg(confusion(3))
    assert re.findall(r'pointer-events="none">(\d+)<', svg) == ["10", "1", "10", "2", "3", "10"]
    assert 'class="two"' in confusion_body(confusion(3))


def test_many_classes_have_their_numbers_as_tips() -> None:
    svg = matrix_svg(confusion(MOST_CLASSES))
    assert 'pointer-events="none"' not in svg
    assert "<title>class 4 → class 5: 5 (33.3 %)</title>" in svg
    assert left_out(confusion(MOST_CLASSES)) == 0


def test_of_too_many_classes_those_with_the_most_mistakes_are_shown() -> None:
    svg = matrix_svg(confusion(200))
    assert left_out(confusion(200)) == 120
    assert ">class 199<" in svg
    assert ">class 5<" not in svg


def test_the_most_frequent_confusions_are_listed_with_their_share() -> None:
    html = confusions_table(confusion(3), number=1)
    assert "class 2 → class 0" in html
    assert "23.1 %" in html
    assert "class 0 → class 1" not in html


def test_tiles_count_what_was_found_and_what_was_right(flawed: DetailedResult) -> None:
    html = tiles(flawed)
    assert "1 of 3 at a score of 0.5" in html  # found
    assert html.count("<b>33 %</b>") == 2  # of what is there, and of what was found


def test_several_ways_are_rows_with_their_gain(
    flawed: DetailedResult, perfect: DetailedResult
) -> None:
    html = overall_table([("plain", flawed), ("TTA", perfect)])
    assert "boxes, plain" in html
    assert "masks, TTA" in html
    assert "change of AP" in html
    gain = (perfect.result.ap("bbox") or 0) - (flawed.result.ap("bbox") or 0)
    assert f'<span class="good">{gain:+.1f}</span>' in html
    assert "change of AP" not in overall_table([("", flawed)])


def test_each_class_is_a_row_of_each_type(perfect: DetailedResult) -> None:
    html = class_tables(perfect)
    assert html.count('<td data-value="cat">cat</td>') == 2
    assert html.count('class="sortable"') == 2


def test_without_instances_there_are_no_curves(perfect: DetailedResult) -> None:
    from dataclasses import replace

    assert "no instances to draw curves of" in curve_plots(replace(perfect, curves={}))


def test_the_gallery_shows_every_kind_of_mistake(
    dataset: CocoDataset, flawed: DetailedResult
) -> None:
    html = Gallery(dataset).singles(flawed, flawed.worst(12))
    assert html.count("<figure>") == 1
    assert "dog 0.90, is cat" in html
    assert "cat 0.70" in html
    assert 'class="frame missed dashed"' in html
    assert ">dog</text>" in html
    assert "1 confused, 1 false, 1 missed; F1 0.00" in html


def test_a_picture_that_has_gone_is_a_sentence(
    dataset: CocoDataset, flawed: DetailedResult
) -> None:
    flawed.worst(1)[0].path.unlink()
    html = Gallery(dataset).singles(flawed, flawed.worst(1))
    assert "cannot be read as a picture" in html


def test_a_comparison_tells_what_got_worse_picture_by_picture(
    dataset: CocoDataset, flawed: DetailedResult, perfect: DetailedResult
) -> None:
    against = Against("old", perfect, compare(perfect, flawed))
    figures, worse = compared_sections(flawed, against, dataset, "new")
    assert worse.title == "Pictures that got worse"
    assert worse.body.count("<figure>") == 2
    assert "one.png: F1 1.00 → 0.00, 2 lost" in worse.body
    assert "This is new, the other is old." in figures.intro
    assert '<span class="bad">' in figures.body
    assert "boxes, other" in figures.body
