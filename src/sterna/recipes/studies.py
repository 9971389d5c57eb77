"""The studies by name: the tables of MiniVLN with their controls, and two smaller ones.

Every minivln study trains in the same folders, so that rows which tables share are trained once.
"""

from __future__ import annotations

from collections.abc import Callable

from sterna.errors import InputError
from sterna.recipes.minivln import beyond, kdweight, losses, stages
from sterna.recipes.pairs import pair
from sterna.recipes.r2r import text_student, text_teacher, toy_student, toy_teacher
from sterna.recipes.study import Options, Study


def make_study(name: str, options: Options) -> Study:
    """Return the study called `name`, one of `STUDIES`."""
    if name not in STUDIES:
        raise InputError(f"study {name!r} is unknown; choose one of {', '.join(STUDIES)}")
    if not options.seeds:
        raise InputError("study: give at least one seed")
    return STUDIES[name](name, options)


STUDIES: dict[str, Callable[[str, Options], Study]] = {
    "r2r-text": pair(text_teacher, text_student),
    "toy": pair(toy_teacher, toy_student),
    "minivln-stages": stages,
    "minivln-losses": losses,
    "minivln-kdweight": kdweight,
    "minivln-beyond": beyond,
}
