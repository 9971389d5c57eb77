"""Full, typed configurations of runs; every recipe is a function that returns one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sterna.data.ndh import History, PathType
from sterna.data.rxr import Role
from sterna.errors import InputError
from sterna.minivln.stage1 import Stage1Config
from sterna.minivln.stage2 import DistillConfig
from sterna.models.config import DuetConfig
from sterna.recipes.answers import GROUNDED_TASKS, Task, Which
from sterna.train.imitation import ImitationConfig
from sterna.train.loop import LoopConfig
from sterna.train.pretrain.task import PretrainConfig
from sterna.train.schedule import OptimizerConfig
from sterna.vlnr1.graph_task import ClosedLoopConfig

DEFAULT_ENCODER = "all-MiniLM-L6-v2"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which episodes and which observations."""

    task: Task = "r2r"
    """Annotations to read."""
    views: str = "text"
    """"text": text observations, embedded once; otherwise an HDF5 file or its name in the data."""
    feature_size: int | None = None
    """Width of a view feature, where the file's width alone does not tell."""
    encoder: str = DEFAULT_ENCODER
    """Sentence encoder (name or folder): embeds text observations and gives the tokeniser."""
    max_words: int = 200
    """Word pieces an instruction is cut to, [CLS] and [SEP] included."""
    blind: bool = False
    """Control: view and object features are zeros, in training and at evaluation."""
    cache: Path | None = None
    """Folder for embedded text observations, names and a teacher's outputs; default
    ~/.cache/sterna."""
    objects: str = "names"
    """What objects look like (REVERIE alone). "names": the sentence embedding of each name in the
    boxes; "none": no objects; otherwise an HDF5 file or its name in the data."""
    max_objects: int | None = None
    """Objects of a viewpoint that training shows, its first ones; None: all. Evaluation shows all,
    as DUET does."""
    languages: tuple[str, ...] = ()
    """RxR: only episodes whose language begins with one of these (en, hi, te, en-IN, ...)."""
    role: Role = "guide"
    """RxR: paths of guides, or of followers."""
    path_type: PathType = "trusted_path"
    """NDH: whose path supervises; trusted_path: the player's where it passes the planner's end."""
    history: History = "all"
    """NDH: what of the dialog the instruction holds."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.max_words < 2:
            raise InputError(f"data: max_words must be at least 2, found {self.max_words}")
        if self.max_objects is not None and self.max_objects < 1:
            raise InputError(
                f"data: max_objects must be at least 1, found {self.max_objects}; to show none, "
                "set objects to none"
            )

    @property
    def grounded(self) -> bool:
        """Whether episodes ask for an object (REVERIE)."""
        return self.task in GROUNDED_TASKS

    @property
    def which(self) -> Which:
        """Which episodes of a split are meant."""
        return Which(
            languages=self.languages,
            role=self.role,
            path_type=self.path_type,
            history=self.history,
        )


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Where the weights begin."""

    weights: Path | None = None
    """A saved policy, or a DUET / ScaleVLN checkpoint; None: begin from random weights."""
    language: str | None = None
    """BERT-family folder (or encoder name) that fills embeddings and language layers."""
    word_table: bool = False
    """Word vectors from the sentence encoder, reduced to the model's width; the view projection
    begins with the same reduction, so that words and captions agree from the start."""
    aligned: bool = False
    """Cross-attention keys begin equal to queries: attention starts as similarity."""
    still: bool = False
    """What layers add to their input begins as zero: deep stacks start as if they were not there
    (zero-initialised residual branches; Goyal et al., 2017)."""
    spread: float | None = None
    """Standard deviation of random weights; None: 0.02 as BERT, 0: one over root of width."""
    from_teacher: bool = False
    """Distillation: begin from the teacher's mapped blocks, every width reduced by a fixed
    projection (after all above, which it replaces)."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.from_teacher and self.weights is not None:
            raise InputError(
                "start: weights and from_teacher both say where the weights begin; leave one out"
            )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Which split selects the weights."""

    split: str = "val_seen"
    """Selection split."""
    episodes: int | None = None
    """Every k-th episode so that about this many are walked; None: all."""
    batch_size: int = 64
    """Episodes walked side by side."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.batch_size < 1 or (self.episodes is not None and self.episodes < 1):
            raise InputError(
                f"select: batch_size and episodes must be at least 1, found {self.batch_size} and "
                f"{self.episodes}"
            )


def _check_selection(data: DataConfig, loop: LoopConfig) -> None:
    if "RGS" in loop.select_by and not data.grounded:
        raise InputError(
            f"loop: select_by {loop.select_by} needs a task with objects ("
            f"{' or '.join(GROUNDED_TASKS)}), found {data.task}; choose SPL, SR, SR+SPL or last"
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run of one policy by imitation."""

    model: DuetConfig = field(default_factory=DuetConfig)
    data: DataConfig = field(default_factory=DataConfig)
    start: StartConfig = field(default_factory=StartConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    select: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        """Check what depends on several parts."""
        _check_selection(self.data, self.loop)


@dataclass(frozen=True, kw_only=True)
class DistillRun(TrainConfig):
    """A training run of a student beside a teacher (MiniVLN stage 2)."""

    distill: DistillConfig = field(default_factory=DistillConfig)
    teacher: Path | None = None
    """The teacher: a saved policy (the folder `best` or `last` of its run), or a published
    checkpoint."""
    read: tuple[Task, ...] = ()
    """Tasks of the data folder whose training instructions `distill.reading`, `distill.swapped` and
    `distill.follow` draw from."""

    def need_teacher(self) -> Path:
        """Return the teacher's folder; `InputError` if none was named."""
        if self.teacher is None:
            raise InputError("distil: no teacher; name its folder, for example --teacher RUN/best")
        return self.teacher


@dataclass(frozen=True, kw_only=True)
class PretrainRun:
    """A pre-training run of one policy, scored by how it navigates without fine-tuning."""

    model: DuetConfig = field(default_factory=lambda: DuetConfig(lang2visn=True))
    data: DataConfig = field(default_factory=DataConfig)
    start: StartConfig = field(default_factory=StartConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    select: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        """Check what depends on several parts."""
        _check_selection(self.data, self.loop)


@dataclass(frozen=True, kw_only=True)
class Stage1Run(PretrainRun):
    """Pre-training of a student beside a pre-trained teacher (MiniVLN stage 1)."""

    distill: Stage1Config = field(default_factory=Stage1Config)
    teacher: Path | None = None
    """The teacher's pre-training run (its `best`), a saved policy with text branches, or a
    published pre-training checkpoint."""

    def need_teacher(self) -> Path:
        """Return the teacher's path; `InputError` if none was named."""
        if self.teacher is None:
            raise InputError("distil: no teacher; name its run, for example --teacher RUN/best")
        return self.teacher


@dataclass(frozen=True, kw_only=True)
class ClosedLoopRun:
    """A run that improves a trained graph policy by walks of its own (GRPO)."""

    policy: Path | None = None
    """The policy to improve: a run (its `best` is meant), or a folder of weights."""
    data: DataConfig = field(default_factory=DataConfig)
    grpo: ClosedLoopConfig = field(default_factory=ClosedLoopConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    select: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        """Check what depends on several parts."""
        _check_selection(self.data, self.loop)

    def need_policy(self) -> Path:
        """Return the policy's folder; `InputError` if none was named."""
        if self.policy is None:
            raise InputError("grpo: no policy to improve; name its run, for example --policy RUN")
        return self.policy
