"""Panoptic and semantic figures in a report."""

from __future__ import annotations

from models.evaluation.panoptic import PanopticResult
from models.evaluation.report.page import Section
from models.evaluation.report.tables import Cell, bar_cell, number, number_cell, table, tile
from models.evaluation.semantic import SemanticResult

_MOST_PAIRS = 12


def panoptic_section(result: PanopticResult) -> Section:
    """PQ, SQ and RQ of things and stuff, and of each class."""
    tiles = "".join(
        tile(
            "PQ" if group == "all" else f"PQ of {group}",
            number(figures["PQ"]),
            f"SQ {number(figures['SQ'])} · RQ {number(figures['RQ'])}",
        )
        for group, figures in result.figures.items()
    )
    rows: list[list[Cell | str]] = [
        [
            name,
            bar_cell(figures["PQ"]),
            number_cell(figures["SQ"]),
            number_cell(figures["RQ"]),
            *(number_cell(figures[key], 0) for key in ("TP", "FP", "FN")),
        ]
        for name, figures in result.per_class.items()
    ]
    heads = ["class", "PQ", "SQ", "RQ", "right", "false", "missed"]
    return Section(
        "panoptic",
        "Panoptic quality",
        f'<div class="tiles">{tiles}</div>{table(heads, rows, sort=True)}',
        f"{result.dataset}, {result.images:,} images. PQ is SQ times RQ (Kirillov et al. 2019): the mean IoU "
        "of the segments that match, times the F1 of matching them.",
    )


def semantic_section(result: SemanticResult, name: str) -> Section:
    """IoU and accuracy, of each class, and which was taken for which; ``name`` is the data set's."""
    figures = result.figures
    tiles = "".join(
        tile(key, number(figures[key]), said)
        for key, said in (
            ("mIoU", "mean over classes"),
            ("fwIoU", "weighed by pixels"),
            ("mACC", "mean accuracy"),
            ("pACC", "pixels that are right"),
        )
    )
    rows: list[list[Cell | str]] = [
        [name, bar_cell(row["IoU"]), number_cell(row["ACC"]), number_cell(row["pixels"], 0)]
        for name, row in result.per_class.items()
    ]
    classes = table(["class", "IoU", "accuracy", "pixels"], rows, sort=True)
    pairs = _pairs(result)
    confused = (
        "<h3>Most frequent confusions</h3>"
        + table(["is → was taken for", "pixels", "of its pixels"], pairs)
        if pairs
        else ""
    )
    return Section(
        "semantic",
        "Semantic segmentation",
        f'<div class="tiles">{tiles}</div>{classes}{confused}',
        f"{name}, {result.images:,} images. {result.ignored:,} pixels do not count, since the label maps say "
        "nothing of them.",
    )


def _pairs(result: SemanticResult) -> list[list[Cell | str]]:
    names = result.class_names
    found = sorted(
        (
            (count, i, j)
            for i, row in enumerate(result.confusion)
            for j, count in enumerate(row)
            if i != j and count
        ),
        reverse=True,
    )
    rows: list[list[Cell | str]] = []
    for count, i, j in found[:_MOST_PAIRS]:
        share = count / sum(result.confusion[i])
        share_cell = Cell(f"{100 * share:.1f} %", share)
        rows.append([f"{names[i]} → {names[j]}", number_cell(count, 0), share_cell])
    return rows
