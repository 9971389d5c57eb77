"""Navigation scores, frozen protocols and submission files."""

from sterna.metrics.continuous import Trace, continuous_scores
from sterna.metrics.navigation import Walk, navigation_scores
from sterna.metrics.protocol import (
    PROTOCOLS,
    R2R_CE,
    R2R_DUET,
    R2R_MATTERSIM,
    R4R_DUET,
    REVERIE_DUET,
    REVERIE_OFFICIAL,
    REVERIE_V2_DUET,
    RXR_CE,
    Protocol,
    find_protocol,
)
from sterna.metrics.result import Estimate, Result, paired_difference, read_result, write_result
from sterna.metrics.score import format_result, score_file, score_predictions, validate_file
from sterna.metrics.submission import (
    Prediction,
    read_leaderboard,
    read_submission,
    validate_submission,
    write_submission,
)

__all__ = [
    "PROTOCOLS",
    "R2R_CE",
    "R2R_DUET",
    "R2R_MATTERSIM",
    "R4R_DUET",
    "REVERIE_DUET",
    "REVERIE_OFFICIAL",
    "REVERIE_V2_DUET",
    "RXR_CE",
    "Estimate",
    "Prediction",
    "Protocol",
    "Result",
    "Trace",
    "Walk",
    "continuous_scores",
    "find_protocol",
    "format_result",
    "navigation_scores",
    "paired_difference",
    "read_leaderboard",
    "read_result",
    "read_submission",
    "score_file",
    "score_predictions",
    "validate_file",
    "validate_submission",
    "write_result",
    "write_submission",
]
