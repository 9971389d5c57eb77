"""GRPO of vision-language navigators: on recorded samples, and in environments; recipes, runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]

from sterna.data.ego.joined import JoinedStore
from sterna.data.ego.samples import EgoSamples
from sterna.data.ego.store import EgoStore
from sterna.envs.crowd import Crowd
from sterna.envs.house_worlds import HouseWorlds
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.models.navigator.folder import Precision, load, save, train_parts
from sterna.models.navigator.sources import Images, JoinedImages, SeenFrames, StoreFrames
from sterna.models.navigator.vlm import VlmNavigator
from sterna.recipes.navigators import check_turns
from sterna.recipes.runs import as_json, defaults_of, write_run
from sterna.recipes.sft import PROTOCOL, check_same_world
from sterna.recipes.simulated import EvalConfig, maker_of, protocol_of, read_episodes
from sterna.train.loop import LoopConfig, Scores
from sterna.train.schedule import OptimizerConfig, uniform_draws
from sterna.train.sft import judge
from sterna.vlnr1.answers import AnswersConfig, AnswersTask
from sterna.vlnr1.objective import ObjectiveConfig
from sterna.vlnr1.offline import OfflineRunner, check_loop
from sterna.vlnr1.rewards import RewardConfig
from sterna.vlnr1.rollouts import RolloutRunner
from sterna.vlnr1.walks import WalkReward
from sterna.world.frames import Action
from sterna.world.geometry import Ints

_HOUSES = 64
"""Houses kept open in practice."""
_SAMPLES = 5500
"""Stream of the draw that chooses samples."""


@dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """Which recorded samples are practised."""

    train: Path = Path("walks")
    """Folder of egocentric walks (`sterna ego make`)."""
    more: tuple[Path, ...] = ()
    """More such folders, practised beside it: a navigator's own walks beside the expert's."""
    held_out: Path | None = None
    """Walks in unseen houses to be scored on; None: none."""
    judged: int = 512
    """Held-out samples of an evaluation, evenly over all."""
    drawn: int | None = None
    """Samples drawn at random to be practised (VLN-R1: 10,000 of each data set); None: all."""
    stops: float | None = None
    """Share of samples whose expert stops within an answer; of the others, or of those, as many are
    left out at random. None: the share that walks have."""
    blind: bool = False
    """Control: every frame is black."""
    cache: Path | None = None
    """Folder for what a frozen tower saw; default: `...-seen` beside each folder of walks."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.cache is not None and self.more:
            raise InputError("samples: cache is for one folder of walks; leave it out beside more")
        if self.stops is not None and not 0 < self.stops < 1:
            raise InputError(f"samples: stops must lie between 0 and 1, found {self.stops}")


@dataclass(frozen=True, kw_only=True)
class PracticeRun:
    """What both kinds of GRPO of a navigator have."""

    policy: Path | None = None
    """The navigator to improve: `best` or `last` of a `sterna sft` run."""
    grpo: AnswersConfig = field(default_factory=AnswersConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(select_by="last"))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    weights: Precision = "fp32"
    """Precision of the weights in memory (`loop.precision` is that of the arithmetic)."""
    checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""

    def __post_init__(self) -> None:
        """Check what depends on several parts."""
        if self.loop.select_by != "last":
            raise InputError(
                f"loop: practice keeps its last weights; select_by must be last, found "
                f"{self.loop.select_by}"
            )
        check_loop(self.loop, self.grpo)

    def need_policy(self) -> Path:
        """Return the navigator's folder; `InputError` if none was named."""
        if self.policy is None:
            raise InputError(
                "grpo: no navigator to improve; name its folder, for example --policy RUN/last"
            )
        return self.policy


@dataclass(frozen=True, kw_only=True)
class OfflineRun(PracticeRun):
    """GRPO on recorded samples (VLN-R1, stage 2)."""

    samples: SamplesConfig = field(default_factory=SamplesConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    tower: bool = False
    """Train the vision tower too."""


@dataclass(frozen=True, kw_only=True)
class RolloutRun(PracticeRun):
    """GRPO by walks in environments."""

    reward: WalkReward = field(default_factory=lambda: WalkReward(progress=1.0))
    env: EvalConfig = field(
        default_factory=lambda: EvalConfig(env="house", agent="", split="train")
    )
    """Where it walks: houses or simulator servers, and which episodes; `slots` follow from the
    batch."""
    execute: int | None = None
    """Actions of an answer that are carried out before looking again; None: all."""

    def __post_init__(self) -> None:
        """Check what depends on several parts."""
        super().__post_init__()
        if self.env.execute is not None:
            raise InputError(
                "grpo: --env.execute is for evaluation and would do nothing here; give --execute "
                f"{self.env.execute}"
            )


@dataclass(frozen=True, kw_only=True)
class ReadyPractice:
    """A run that could start: all is read, nothing is done yet."""

    config: PracticeRun
    policy: VlmNavigator
    runner: OfflineRunner | RolloutRunner


def _task(config: PracticeRun, *, tower: bool = False) -> AnswersTask:
    folder = config.need_policy()
    policy = load(folder, precision=config.weights)
    train_parts(policy, tower=tower, checkpointing=config.checkpointing)
    start = load(folder, precision=config.weights) if config.grpo.objective.kl_weight else None
    # accelerate keeps one precision a process.
    AcceleratorState._reset_state()
    return AnswersTask(policy, start, config.grpo)


def prepare_offline(config: OfflineRun, out: Path) -> ReadyPractice:
    """Read all that a run on recorded samples needs."""
    task = _task(config, tower=config.tower)
    policy, chosen = task.policy, config.samples
    stores = [EgoStore(folder) for folder in (chosen.train, *chosen.more)]
    joined = JoinedStore(stores)
    samples = _samples(policy, joined)
    runner = OfflineRunner(
        task,
        samples,
        JoinedImages([_images(policy, store, chosen) for store in stores], joined.starts),
        config.reward,
        out,
        config.loop,
        config.optimizer,
        rows=practised_rows(samples, chosen, config.loop.seed),
        evaluate=_judge(policy, stores[0], chosen),
        keep=lambda name: _keep(config, policy, out / name),
        config=as_json(config),
        defaults=defaults_of(config),
    )
    return ReadyPractice(config=config, policy=policy, runner=runner)


def practised_rows(samples: EgoSamples, chosen: SamplesConfig, seed: int) -> Ints | None:
    """Return the numbers of the samples that are practised, in order; None: all.

    `InputError` if samples of one kind are wanted and there are none.
    """
    if chosen.stops is None and chosen.drawn is None:
        return None
    order = np.argsort(uniform_draws(seed, _SAMPLES, 0, (len(samples),)))
    if chosen.stops is not None:
        stops = (samples.targets()[order] == Action.STOP).any(1)
        share, counts = chosen.stops, (int(stops.sum()), int((~stops).sum()))
        if not all(counts):
            raise InputError(
                f"{samples.store.folder}: samples.stops {share:g} wants answers with STOP and "
                f"without, found {counts[0]} and {counts[1]}; leave it out"
            )
        whole = min(counts[0] / share, counts[1] / (1 - share))
        wanted = round(whole * share), round(whole * (1 - share))
        rank = np.where(stops, stops.cumsum(), (~stops).cumsum())
        order = order[rank <= np.where(stops, *wanted)]
    return np.sort(order[: chosen.drawn])


def _samples(policy: VlmNavigator, store: EgoStore | JoinedStore) -> EgoSamples:
    memory, wording = policy.history, policy.wording
    rules = store.stores[0].protocol if isinstance(store, JoinedStore) else store.protocol
    angle = rules.get("turn_angle")
    if angle != wording.turn_angle:
        raise InputError(
            f"{store.folder}: turns are {angle} degrees there, the navigator speaks of "
            f"{wording.turn_angle:g}; practise with walks of the protocol it was trained on"
        )
    return EgoSamples(store, wording.actions, memory.kind, memory.budget)


def _images(policy: VlmNavigator, store: EgoStore, chosen: SamplesConfig) -> Images:
    if not policy.frozen_tower:
        return StoreFrames(store, blind=chosen.blind)
    folder = chosen.cache or store.folder.with_name(store.folder.name + "-seen")
    return SeenFrames(policy, store, folder, blind=chosen.blind)


def _judge(
    policy: VlmNavigator, store: EgoStore, chosen: SamplesConfig
) -> Callable[[], Scores] | None:
    if chosen.held_out is None:
        return None
    held_out = EgoStore(chosen.held_out)
    check_same_world(store, held_out)
    samples = _samples(policy, held_out)
    count = min(chosen.judged, len(samples))
    some = [samples[int(i)] for i in np.linspace(0, len(samples) - 1, count).astype(np.int64)]
    images = _images(policy, held_out, chosen)
    return lambda: judge(policy, some, images)


def prepare_rollouts(config: RolloutRun, root: Path | None, out: Path) -> ReadyPractice:
    """Read all that a run in environments needs."""
    task = _task(config)
    env = replace(config.env, agent=str(config.need_policy()))
    protocol = protocol_of(env)
    episodes, _ = read_episodes(env, root)

    def make(count: int) -> list[object] | Crowd:
        if env.env == "house":
            return Crowd(HouseWorlds(protocol, keep=_HOUSES), protocol)
        return list(maker_of(replace(env, slots=count), protocol, episodes, ("rgb",))(0))

    runner = RolloutRunner(
        task,
        make,  # type: ignore[arg-type]
        protocol,
        config.reward,
        episodes,
        out,
        config.loop,
        config.optimizer,
        execute=config.execute,
        keep=lambda name: _keep(config, task.policy, out / name),
        config=as_json(config),
        defaults=defaults_of(config),
    )
    check_turns(runner.agent_of(0), protocol)
    return ReadyPractice(config=config, policy=task.policy, runner=runner)


def run_practice(ready: ReadyPractice, out: Path, *, threads: int | None = None) -> Path:
    """Practise in `out`, from wherever it stopped; return `out`.

    Leaves ``last/`` (a navigator), ``run.json``, ``log.jsonl``, ``state.pt`` and, on recorded
    samples, ``answers.jsonl``: every answer with its tokens and its reward.
    """
    beside = ready.config.need_policy().parent / PROTOCOL
    if beside.is_file():
        write_json(out / PROTOCOL, read_json(beside))
    progress = ready.runner.run()
    write_run(out, ready.config, progress_values=vars(progress), threads=threads)
    return out


def _keep(config: PracticeRun, policy: VlmNavigator, folder: Path) -> None:
    how = "by walks in environments" if isinstance(config, RolloutRun) else "on recorded samples"
    notes = (
        f"Improved by GRPO {how} from {config.need_policy()}: {config.loop.iterations} iterations "
        f"of {config.loop.batch_size} groups of {config.grpo.objective.group}, seed "
        f"{config.loop.seed}."
    )
    save(policy, folder, notes=notes)


_SMALL = OptimizerConfig(
    learning_rate=2e-5, warmup=20, schedule="cosine", betas=(0.9, 0.98), clip_norm=1.0
)


def navigator_s() -> OfflineRun:
    """navigator-s on recorded samples, answers compared with the expert's. CPU."""
    return OfflineRun(
        # Divided by the deviation of their own group, answers that nearly agree count as much as
        # those that differ: over-confidence grows faster than what is known.
        grpo=AnswersConfig(constrained=True, objective=ObjectiveConfig(scale="batch")),
        loop=LoopConfig(
            iterations=60,
            batch_size=64,
            length_window=32,
            log_every=10,
            eval_every=30,
            save_every=30,
            select_by="last",
        ),
        optimizer=replace(_SMALL, learning_rate=2e-4, warmup=5),
    )


def navigator_s_walks() -> RolloutRun:
    """navigator-s in houses: groups of walks from one start. CPU."""
    base = navigator_s()
    return RolloutRun(
        # At 1 walks are far worse than those that are scored.
        grpo=AnswersConfig(constrained=True, temperature=0.5),
        # In small houses 3 m are reached by chance, and progress pays walks that never stop.
        reward=WalkReward(success=0.0, spl=0.0, success_1m=1.0, spl_1m=1.0),
        execute=3,
        loop=replace(
            base.loop, iterations=14, batch_size=12, length_window=1, log_every=1, save_every=7
        ),
        optimizer=replace(_SMALL, learning_rate=3e-4, warmup=2),
    )


def vlm_2b() -> OfflineRun:
    """A fine-tuned 2B navigator with VLN-R1's settings: group 8, KL 0.04, rate 1e-6. GPUs."""
    return OfflineRun(
        samples=SamplesConfig(drawn=20_000),
        loop=LoopConfig(
            iterations=2500,
            batch_size=8,
            pieces=8,
            precision="bf16",
            length_window=64,
            log_every=10,
            eval_every=500,
            save_every=250,
            select_by="last",
        ),
        optimizer=OptimizerConfig(learning_rate=1e-6, weight_decay=0.0, clip_norm=1.0),
        checkpointing=True,
    )


def vlm_7b() -> OfflineRun:
    """A fine-tuned 7B navigator with VLN-R1's settings. Several GPUs."""
    return replace(vlm_2b(), weights="bf16")


def vlm_2b_walks() -> RolloutRun:
    """A fine-tuned 2B navigator in a simulator behind HTTP (Habitat). GPUs."""
    base = vlm_2b()
    return RolloutRun(
        env=EvalConfig(env="habitat", agent="", split="train"),
        loop=replace(base.loop, batch_size=4, pieces=32, length_window=1),
        optimizer=base.optimizer,
        checkpointing=True,
    )


OFFLINE = {"navigator-s": navigator_s, "vlm-2b": vlm_2b, "vlm-7b": vlm_7b}
ROLLOUTS = {"navigator-s-walks": navigator_s_walks, "vlm-2b-walks": vlm_2b_walks}
"""Recipes by the names that `sterna grpo` takes, beside those of graph policies."""
