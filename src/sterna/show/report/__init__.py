"""A run as one HTML page: table, curves, and episodes to step through; no network, no server."""

from sterna.show.report.page import write_report
from sterna.show.report.parts import (
    Curve,
    Decision,
    Floor,
    Plan,
    Report,
    ScoreRow,
    Shown,
    Walked,
)

__all__ = [
    "Curve",
    "Decision",
    "Floor",
    "Plan",
    "Report",
    "ScoreRow",
    "Shown",
    "Walked",
    "write_report",
]
