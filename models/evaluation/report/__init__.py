"""The report on an evaluation: figures, curves, confusions and pictures in one HTML file."""

from models.evaluation.report.compared import Against
from models.evaluation.report.report import Report

__all__ = ["Against", "Report"]
