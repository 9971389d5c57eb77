"""The unit of work of every task: one instruction, where it starts and where it ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One instruction with its reference path; R2R, R4R, FGR2R and REVERIE fill the same fields.

    `path` is the annotated path (viewpoint ids; the start alone where the split is a test split),
    `heading` the initial heading in radians (0 = +y, clockwise), `distance` the stated length in
    metres. `goals` lists every viewpoint that counts as the goal; empty means ``path[-1]``.
    `sub_paths[k]` holds the first and last index into `path` of `sub_instructions[k]` (0-based).
    """

    instr_id: str
    scan: str
    path: tuple[str, ...]
    heading: float
    instruction: str
    path_id: int | str
    distance: float | None = None
    split: str | None = None
    object_id: int | None = None
    goals: tuple[str, ...] = ()
    token_ids: tuple[int, ...] | None = None
    sub_instructions: tuple[str, ...] = ()
    sub_paths: tuple[tuple[int, int], ...] = ()

    @property
    def start(self) -> str:
        """Viewpoint at which the episode begins."""
        return self.path[0]

    @property
    def goal(self) -> str:
        """Last viewpoint of the annotated path."""
        return self.path[-1]
