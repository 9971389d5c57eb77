"""The study of one teacher and its student: a blind control, the student alone and distilled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sterna.recipes.config import DistillRun, TrainConfig
from sterna.recipes.results import Arm
from sterna.recipes.study import FAR, RANDOM, TEACHER, Job, Options, Study, sized


def pair(
    teacher: Callable[[], TrainConfig], student: Callable[[], DistillRun]
) -> Callable[[str, Options], Study]:
    """Return the study of two recipes."""

    def make(name: str, options: Options) -> Study:
        return _alone_and_distilled(name, options, teacher(), student())

    return make


def _alone_and_distilled(
    name: str, options: Options, teacher: TrainConfig, student: DistillRun
) -> Study:
    best = options.given.get(TEACHER, options.out / TEACHER / "best")
    first = sized(teacher, options, 0)
    blind = replace(first, data=replace(first.data, blind=True))
    alone = replace(student, distill=replace(student.distill, weight=0.0))
    taught = replace(student, teacher=best)
    needs = () if TEACHER in options.given else (TEACHER,)

    def job(folder: str, config: TrainConfig, *needs: str) -> Job:
        return Job(folder=folder, config=lambda: config, needs=needs)

    jobs = [job(TEACHER, first), job("teacher-blind", blind)]
    for seed in options.seeds:
        jobs.append(job(f"student-alone-{seed}", sized(alone, options, seed)))
        jobs.append(job(f"student-distilled-{seed}", sized(taught, options, seed), *needs))

    def students(kind: str) -> tuple[str, ...]:
        return tuple(f"student-{kind}-{seed}" for seed in options.seeds)

    teachers = (TEACHER,)
    arms = (
        Arm(name=RANDOM, label="random agent", folders=(RANDOM,)),
        Arm(name=FAR, label="shortest path to a random far node", folders=(FAR,)),
        Arm(name="teacher", label="teacher", folders=teachers),
        Arm(name="blind", label="teacher, trained blind", folders=("teacher-blind",)),
        Arm(
            name="permuted",
            label="teacher, instructions permuted",
            folders=teachers,
            evaluation="eval-permuted",
            permute=True,
        ),
        Arm(
            name="unseeing",
            label="teacher, views zeroed at test time",
            folders=teachers,
            evaluation="eval-blind",
            blind=True,
        ),
        Arm(name="alone", label="student, alone", folders=students("alone")),
        Arm(name="distilled", label="student, distilled", folders=students("distilled")),
    )
    return Study(
        name=name,
        data=first.data,
        jobs=tuple(jobs),
        arms=arms,
        pairs=(("teacher", "blind"), ("distilled", "alone"), ("distilled", "teacher")),
        compared=("distilled", "teacher"),
        given=options.given,
    )
