"""MiniVLN's tables as studies: stages (III), losses (IV), KDWeight (V), and what goes beyond."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.config import DuetConfig
from sterna.recipes import houses, reverie
from sterna.recipes.answers import Task
from sterna.recipes.config import (
    DistillRun,
    PretrainRun,
    Stage1Run,
    StartConfig,
    TrainConfig,
)
from sterna.recipes.pretraining import text_pretraining, text_stage1, toy_pretraining, toy_stage1
from sterna.recipes.r2r import text_student, text_teacher, toy_student, toy_teacher
from sterna.recipes.results import Arm
from sterna.recipes.study import FAR, RANDOM, TEACHER, Job, Options, Study, sized

_Run = TypeVar("_Run", Stage1Run, DistillRun)

PRETRAINED = "teacher-pretrained"
_LONGER = "none-longer"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The four recipes that a MiniVLN study is made of."""

    pretrained: Callable[[], PretrainRun]
    teacher: Callable[[], TrainConfig]
    stage1: Callable[[], Stage1Run]
    stage2: Callable[[], DistillRun]
    read: tuple[Task, ...] = ()
    """Tasks of the same buildings, whose instructions a student can read beside its walks."""


def _after(recipe: Callable[[], TrainConfig]) -> Callable[[], TrainConfig]:
    """Return a teacher's recipe for after pre-training: fewer steps."""

    def make() -> TrainConfig:
        base = recipe()
        loop = replace(base.loop, iterations=1600, warm_start=100, eval_every=800)
        return replace(base, loop=loop)

    return make


def _longer(recipe: Callable[[], Stage1Run]) -> Callable[[], Stage1Run]:
    """Return a student's pre-training with as many steps as its fine-tuning will have."""

    def make() -> Stage1Run:
        base = recipe()
        return replace(base, loop=replace(base.loop, iterations=3000, eval_every=1500))

    return make


def _student_after(
    recipe: Callable[[], DistillRun], iterations: int = 3000, *, objects: bool = False
) -> Callable[[], DistillRun]:
    """Return a student's recipe for after pre-training: half the rate, no first lessons."""

    def make() -> DistillRun:
        base = recipe()
        return replace(
            base,
            loop=replace(base.loop, iterations=iterations, warm_start=100, eval_every=1000),
            optimizer=replace(base.optimizer, learning_rate=5e-4),
            distill=replace(base.distill, lessons=0, fit_maps=True, objects=objects),
        )

    return make


def _as_many_heads(
    recipe: Callable[[], DistillRun], teacher: Callable[[], TrainConfig]
) -> Callable[[], DistillRun]:
    """Return a student's recipe with its teacher's number of heads, which attention asks for."""

    def make() -> DistillRun:
        base = recipe()
        return replace(base, model=replace(base.model, heads=teacher().model.heads))

    return make


SCALES = {
    "text": Scale(
        pretrained=text_pretraining,
        teacher=_after(text_teacher),
        stage1=_longer(text_stage1),
        stage2=_student_after(text_student),
        read=("reverie",),
    ),
    "text-reverie": Scale(
        pretrained=reverie.text_pretraining,
        teacher=_after(reverie.text_teacher),
        stage1=_longer(reverie.text_stage1),
        stage2=_student_after(reverie.text_student, 6000, objects=True),
        read=("r2r",),
    ),
    "houses": Scale(
        pretrained=houses.house_pretraining,
        teacher=houses.house_teacher,
        stage1=houses.house_stage1,
        stage2=houses.house_student,
    ),
    "toy": Scale(
        pretrained=toy_pretraining,
        teacher=toy_teacher,
        stage1=toy_stage1,
        stage2=_as_many_heads(toy_student, toy_teacher),
    ),
    "toy-reverie": Scale(
        pretrained=reverie.toy_pretraining,
        teacher=reverie.toy_teacher,
        stage1=reverie.toy_stage1,
        stage2=_as_many_heads(reverie.toy_student, reverie.toy_teacher),
    ),
}


# --- one row of students -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Student:
    """A row of students: what it began with, what it hears in stage 2, how else it differs."""

    name: str
    label: str
    taught: bool
    """Pre-trained beside the teacher (stage 1)."""
    hears: bool
    """Fine-tuned beside the teacher (stage 2)."""
    change: Callable[[DistillRun], DistillRun] | None = None
    inherits: bool = False
    """Pre-training begins from the teacher's mapped blocks."""
    wider: bool = False
    """Its word table is narrow, and all else wider (`_widened`)."""
    quick: bool = False
    """Its words and language layers learn at `_QUICK` times the rate, in both stages."""


_QUICK = 3.0
"""Factor on the rate of a student's language, which at 1 is far from learnt when training ends."""


def _distill(**values: Any) -> Callable[[DistillRun], DistillRun]:
    return lambda run: replace(run, distill=replace(run.distill, **values))


def _weighted(factor: float) -> Callable[[DistillRun], DistillRun]:
    return lambda run: replace(
        run, distill=replace(run.distill, weight=factor * run.distill.weight)
    )


_NONE = _Student(name="none", label="student, no distillation", taught=False, hears=False)
_BOTH = _Student(name="both", label="student, both stages", taught=True, hears=True)
_STAGES = (
    _NONE,
    _Student(name="stage1", label="student, stage 1 only", taught=True, hears=False),
    _Student(name="stage2", label="student, stage 2 only", taught=False, hears=True),
    _BOTH,
)
_LOSSES = (
    _NONE,
    *(
        _Student(
            name=f"both-{name}",
            label=f"student, {label}",
            taught=True,
            hears=True,
            change=_distill(**terms),
        )
        for name, label, terms in (
            ("no-text", "pano + fuse (no txt)", {"text": False}),
            ("no-panorama", "txt + fuse (no pano)", {"panorama": False}),
            ("no-fuse", "txt + pano (no fuse)", {"fuse": False}),
            ("fuse-only", "fuse only", {"text": False, "panorama": False}),
        )
    ),
    replace(_BOTH, label="student, txt + pano + fuse"),
)
_WEIGHTS = (
    _NONE,
    *(
        _Student(
            name=f"both-weight-{name}",
            label=f"student, KDWeight x {factor:g}",
            taught=True,
            hears=True,
            change=_weighted(factor),
        )
        for name, factor in (("low", 0.1), ("high", 10.0))
    ),
    replace(_BOTH, label="student, KDWeight x 1"),
)


def _other_norm(run: DistillRun) -> DistillRun:
    return replace(run, distill=replace(run.distill, normalise=not run.distill.normalise))


def _no_replay(run: DistillRun) -> DistillRun:
    return replace(run, loop=replace(run.loop, replay=0))


def _changed(name: str, label: str, change: Callable[[DistillRun], DistillRun]) -> _Student:
    return _Student(
        name=f"both-{name}", label=f"student, {label}", taught=True, hears=True, change=change
    )


_BEYOND = (
    _BOTH,
    _changed("lessons", "300 first lessons", _distill(lessons=300)),
    _changed("temperature", "temperature 4 to 1", _distill(temperature=4.0, final_temperature=1.0)),
    _changed("corrections", "half of the labels the teacher's", _distill(corrections=0.5)),
    _changed("other-norm", "stage 2 with the other normalisation", _other_norm),
    _changed("no-replay", "no replay", _no_replay),
    replace(_changed("inherited", "begun from its teacher", lambda run: run), inherits=True),
)


def _reading(tasks: tuple[Task, ...]) -> _Student:
    def change(run: DistillRun) -> DistillRun:
        return replace(run, read=tasks, distill=replace(run.distill, reading=64))

    return _changed("reading", f"reads {' and '.join(tasks)} too", change)


def _following(tasks: tuple[Task, ...]) -> _Student:
    def change(run: DistillRun) -> DistillRun:
        return replace(run, read=tasks, distill=replace(run.distill, reading=64, follow=8))

    return _changed("following", f"reads and follows {' and '.join(tasks)} too", change)


def _swapping(tasks: tuple[Task, ...]) -> _Student:
    def change(run: DistillRun) -> DistillRun:
        distill = replace(run.distill, reading=64, swapped=24)
        return replace(run, read=(*tasks, run.data.task), distill=distill)

    return _changed("swapping", "reads all, and words that nobody said", change)


def _wider(tasks: tuple[Task, ...]) -> _Student:
    row = replace(_swapping(tasks), name="both-wider", wider=True)
    return replace(row, label="student, wider behind a narrow word table, reads as the last")


def _quick(tasks: tuple[Task, ...]) -> _Student:
    def change(run: DistillRun) -> DistillRun:
        distill = replace(run.distill, reading=64)
        return replace(run, read=(*tasks, run.data.task), distill=distill)

    return replace(_changed("quick", "reads all, language learns quicker", change), quick=True)


def _wider_quick(tasks: tuple[Task, ...]) -> _Student:
    row = replace(_quick(tasks), name="both-wider-quick", wider=True)
    return replace(row, label="student, wider, reads all, language learns quicker")


def _tutored(tasks: tuple[Task, ...]) -> _Student:
    before = _wider_quick(tasks)

    def change(run: DistillRun) -> DistillRun:
        # After lessons the language is only kept: at a larger rate walks would shake it.
        run = replace(run, distill=replace(run.distill, language_lessons=1000))
        rate = run.optimizer.language_rate / _QUICK
        run = replace(run, optimizer=replace(run.optimizer, language_rate=rate))
        return before.change(run) if before.change else run

    label = "student, wider, reads all, language quicker in stage 1, then lessons"
    return replace(before, name="both-wider-tutored", label=label, change=change)


def _hastened(run: _Run) -> _Run:
    """Return a run whose words and language layers learn at `_QUICK` times the rate."""
    rate = _QUICK * run.optimizer.language_rate
    return replace(run, optimizer=replace(run.optimizer, language_rate=rate))


def _widened(model: DuetConfig) -> DuetConfig:
    """Return a model of about as many weights: a third wider, words half as wide as that."""
    step = 2 * model.heads
    width = -(-4 * model.hidden_size // (3 * step)) * step
    return replace(model, hidden_size=width, ffn_size=4 * width, word_size=width // 2)


def _shaped(run: _Run, row: _Student) -> _Run:
    """Return a student's run of either stage with the sizes and rates of its row."""
    run = replace(run, model=_widened(run.model)) if row.wider else run
    return _hastened(run) if row.quick else run


class _Minivln:
    """Builds the trainings of MiniVLN studies; the same row always has the same folders."""

    def __init__(self, options: Options) -> None:
        if options.scale not in SCALES:
            raise InputError(
                f"scale {options.scale!r} is unknown; choose one of {', '.join(SCALES)}"
            )
        self.options, self.scale = options, SCALES[options.scale]
        self.jobs: dict[str, Job] = {}

    def _add(self, folder: str, config: Callable[[], Any], *needs: str) -> str:
        asked = tuple(need for need in needs if need not in self.options.given)
        self.jobs.setdefault(folder, Job(folder=folder, config=config, needs=asked))
        return folder

    def _best(self, folder: str) -> Path:
        return self.options.given.get(folder, self.options.out / folder / "best")

    def _sized(self, config: Any, seed: int, *, blind: bool) -> Any:
        config = sized(config, self.options, seed)
        return replace(config, data=replace(config.data, blind=blind))

    def data(self) -> Any:
        """The data that all runs read."""
        return self._sized(self.scale.teacher(), 0, blind=False).data

    def teacher(self, *, blind: bool = False) -> str:
        """Add the teacher: pre-trained, then fine-tuned."""
        end = "-blind" * blind
        before = self._add(
            PRETRAINED + end, lambda: self._sized(self.scale.pretrained(), 0, blind=blind)
        )

        def config() -> TrainConfig:
            run: TrainConfig = self._sized(self.scale.teacher(), 0, blind=blind)
            return replace(run, start=StartConfig(weights=self._best(before)))

        return self._add(TEACHER + end, config, before)

    def pretrained(self, row: _Student, seed: int, *, blind: bool = False) -> str:
        """Add a student's pre-training, alone or beside the teacher (stage 1)."""
        end = "-blind" * blind
        source = PRETRAINED + end

        def config() -> Stage1Run:
            run: Stage1Run = self._sized(self.scale.stage1(), seed, blind=blind)
            if row.inherits:
                run = replace(run, start=StartConfig(from_teacher=True))
            run = _shaped(run, row)
            if row.taught:
                return replace(run, teacher=self._best(source))
            return replace(run, distill=replace(run.distill, weight=0.0))

        kind = "inherited" if row.inherits else "taught" if row.taught else "alone"
        kind = "wider" if row.wider else kind
        kind += "-quick" * row.quick
        needs = [source] if row.taught else []
        return self._add(f"pretrained-{kind}{end}-{seed}", config, *needs)

    def _fine_tuned(self, row: _Student, seed: int, before: str, *, blind: bool) -> DistillRun:
        run: DistillRun = self._sized(self.scale.stage2(), seed, blind=blind)
        run = replace(run, start=StartConfig(weights=self._best(before)))
        run = _shaped(run, row)
        run = row.change(run) if row.change is not None else run
        if row.hears:
            return replace(run, teacher=self._best(TEACHER + "-blind" * blind))
        return replace(run, distill=replace(run.distill, weight=0.0))

    def student(self, row: _Student, seed: int, *, blind: bool = False) -> tuple[str, str]:
        """Add a student of a row; return its folder and that of its pre-training."""
        end = "-blind" * blind
        before = self.pretrained(row, seed, blind=blind)
        folder = self._add(
            f"{row.name}{end}-{seed}",
            lambda: self._fine_tuned(row, seed, before, blind=blind),
            before,
            *([TEACHER + end] if row.hears else []),
        )
        return folder, before

    def longer(self, seed: int) -> tuple[str, str]:
        """Add the student without a teacher that trains as many seconds as `both` did."""
        none, before = self.student(_NONE, seed)
        both, taught = self.student(_BOTH, seed)
        folder = f"{_LONGER}-{seed}"

        def config() -> DistillRun:
            run = self._fine_tuned(_NONE, seed, before, blind=False)
            started = self.options.out / folder / "recipe.json"
            if started.is_file():  # a resumed run keeps the length it began with
                longer = int(read_json(started)["loop"]["iterations"])
            else:
                own, plain = self._seconds(none), self._seconds(before)
                target = self._seconds(both) + self._seconds(taught) - plain
                longer = round(run.loop.iterations * target / own)
            return replace(run, loop=replace(run.loop, iterations=max(1, longer)))

        return self._add(folder, config, none, both), before

    def _seconds(self, folder: str) -> float:
        return float(read_json(self.options.out / folder / "run.json")["seconds"])


def _student_arm(build: _Minivln, row: _Student) -> Arm:
    pairs = [build.student(row, seed) for seed in build.options.seeds]
    folders, before = zip(*pairs, strict=True)
    return Arm(name=row.name, label=row.label, folders=folders, before=before)


def _finish(
    name: str,
    build: _Minivln,
    arms: Sequence[Arm],
    pairs: Sequence[tuple[str, str]],
    compared: tuple[str, str] | None = None,
) -> Study:
    return Study(
        name=name,
        data=build.data(),
        jobs=tuple(_by_seed(build)),
        arms=tuple(arms),
        pairs=tuple(pairs),
        compared=compared,
        given=build.options.given,
    )


def _by_seed(build: _Minivln) -> list[Job]:
    """Order jobs so that every row has its first seed before any has its second.

    A blind teacher comes last: little waits for it.
    """

    def seed(job: Job) -> int:
        last = job.folder.rsplit("-", 1)[-1]
        if last == "blind":
            return len(build.options.seeds)
        return build.options.seeds.index(int(last)) if last.isdigit() else -1

    return sorted(build.jobs.values(), key=seed)


def _teacher_arm(build: _Minivln, *, blind: bool = False) -> Arm:
    folder, source = build.teacher(blind=blind), PRETRAINED + "-blind" * blind
    trained = not {folder, source} & build.options.given.keys()
    before = (source,) if trained else ()
    label = "teacher, blind throughout" if blind else "teacher"
    return Arm(name="blind" if blind else "teacher", label=label, folders=(folder,), before=before)


def stages(name: str, options: Options) -> Study:
    """Table III: no distillation, stage 1, stage 2, both; with the controls."""
    build = _Minivln(options)
    arms = [
        Arm(name=RANDOM, label="random agent", folders=(RANDOM,)),
        Arm(name=FAR, label="shortest path to a random far node", folders=(FAR,)),
        _teacher_arm(build),
        *(_student_arm(build, row) for row in _STAGES),
    ]
    folders, before = zip(*(build.longer(seed) for seed in options.seeds), strict=True)
    label = "student, no distillation, as many seconds as both stages"
    arms.insert(4, Arm(name=_LONGER, label=label, folders=folders, before=before))
    arms.append(_teacher_arm(build, blind=True))
    first = options.seeds[0]
    folder, pre = build.student(_BOTH, first, blind=True)
    label = "student, both stages, blind throughout"
    arms.append(Arm(name="both-blind", label=label, folders=(folder,), before=(pre,)))
    pairs = [
        ("stage1", "none"),
        ("stage2", "none"),
        ("both", "none"),
        ("both", "stage1"),
        ("both", "stage2"),
        *((row, _LONGER) for row in ("stage1", "stage2", "both")),
        ("both", "teacher"),
        ("teacher", "blind"),
        ("both", "both-blind"),
    ]
    return _finish(name, build, arms, pairs, ("both", "teacher"))


def story(name: str, options: Options) -> Study:
    """The quickstart's table: floors, a blind teacher, the teacher, a student alone and taught."""
    build = _Minivln(options)
    arms = [
        Arm(name=RANDOM, label="random agent", folders=(RANDOM,)),
        Arm(name=FAR, label="random far node", folders=(FAR,)),
        replace(_teacher_arm(build, blind=True), label="teacher, blind"),
        _teacher_arm(build),
        replace(_student_arm(build, _NONE), label="student, alone"),
        replace(_student_arm(build, _BOTH), label="student, distilled"),
    ]
    pairs = (("both", "none"), ("both", "teacher"), ("teacher", "blind"))
    return _finish(name, build, arms, pairs, ("both", "teacher"))


def losses(name: str, options: Options) -> Study:
    """Table IV: which of stage 2's terms are heard."""
    return _table(_LOSSES, name, options)


def kdweight(name: str, options: Options) -> Study:
    """Table V: the weight of stage 2's terms."""
    return _table(_WEIGHTS, name, options)


def beyond(name: str, options: Options) -> Study:
    """Switches that the paper does not have."""
    tasks = SCALES[options.scale].read if options.scale in SCALES else ()
    made = (
        (_reading, _following, _swapping, _wider, _quick, _wider_quick, _tutored) if tasks else ()
    )
    rows = [*_BEYOND, *(row(tasks) for row in made)]
    return _table(rows, name, options)


def _table(rows: Sequence[_Student], name: str, options: Options) -> Study:
    """Return rows of students beside their teacher, each against both stages."""
    build = _Minivln(options)
    arms = [_teacher_arm(build), *(_student_arm(build, row) for row in rows)]
    pairs = [(row.name, "both") for row in rows if row.name != "both"]
    return _finish(name, build, arms, pairs, ("both", "teacher"))
