"""Models made ready to be timed: presets and policies exported for it, exports as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sterna.edge.bench.episode import Shape, directions_of
from sterna.edge.bench.flops import count_flops
from sterna.edge.export import TOKENIZER, new_folder, write_engines, write_manifest
from sterna.edge.runtime import ENGINES as EXPORTED
from sterna.edge.runtime import Manifest, read_manifest
from sterna.edge.runtime.folder import is_export
from sterna.errors import InputError
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.presets import PRESETS, preset
from sterna.models.pretrained import save_pretrained
from sterna.recipes.policies import open_policy, policy_folder
from sterna.recipes.toyworld import toy_tokenizer

ENGINES = ("torch", "torch-compile", *EXPORTED)
"""In torch as it is, through torch.compile, in ONNX Runtime with float32 and with int8."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A model, and the engines it is to run on."""

    model: str
    engines: tuple[str, ...]

    @property
    def exported(self) -> bool:
        """Whether the model is an exported folder."""
        return _is_export(self.model)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model made ready: what is known of it, and its folder for every engine."""

    parameters: int
    sizes: DuetConfig
    flops: tuple[int, float]
    folders: dict[str, Path]
    size: dict[str, int] = field(default_factory=dict)


def read_ask(text: str) -> Ask:
    """Read ``MODEL`` or ``MODEL:ENGINE,ENGINE``; a bare model takes every engine it has.

    A model is the name of a preset (random weights), a run or saved policy, or an exported folder.
    Raises `InputError` for anything else.
    """
    model, colon, tail = text.rpartition(":")
    names = tuple(tail.split(",")) if colon else ()
    if not colon or Path(text).exists():
        model, names = text, ()
    odd = [name for name in names if name not in ENGINES]
    if odd:
        raise InputError(
            f"{text}: engine {odd[0]!r} is unknown; give MODEL:ENGINE,ENGINE with engines out of "
            f"{', '.join(ENGINES)}"
        )
    if model not in PRESETS and not Path(model).is_dir():
        raise InputError(
            f"{model}: no preset and no folder; give one of {', '.join(PRESETS)}, a run, a saved "
            "policy or an exported folder"
        )
    return Ask(model=model, engines=names or _every_engine(model))


def _every_engine(model: str) -> tuple[str, ...]:
    if _is_export(model):
        return tuple(read_manifest(model).graphs)
    return ENGINES


def _is_export(model: str) -> bool:
    return model not in PRESETS and is_export(Path(model))


def read_asks(asked: Sequence[str]) -> list[Ask]:
    """Read what is to be measured; `InputError` for nothing, and for what is named twice."""
    asks = [read_ask(text) for text in asked]
    if not asks:
        raise InputError("no model was named; for example duet-r2r:torch minivln:torch,onnx-int8")
    names = [ask.model for ask in asks]
    if len(set(names)) < len(names):
        raise InputError(
            f"a model is named twice in {' '.join(asked)}; name it once, engines joined by commas"
        )
    if any(len(set(ask.engines)) < len(ask.engines) for ask in asks):
        raise InputError(f"an engine is named twice in {' '.join(asked)}; name it once")
    return asks


def prepare(ask: Ask, shape: Shape, scratch: Path) -> Subject:
    """Build or open a model, export it where that is asked for, into `scratch`; count its work."""
    if ask.exported:
        return _exported(ask, shape)
    if ask.model in PRESETS:
        torch.manual_seed(shape.seed)
        model = DUET(preset(ask.model)).eval()
        policy = save_pretrained(model, scratch / "policy")
    else:
        model, policy = (
            open_policy(Path(ask.model))[0].float().eval(),
            policy_folder(Path(ask.model)),
        )
    _check_sizes(model.config, shape, ask.model)
    folders = {engine: policy for engine in ask.engines if engine not in EXPORTED}
    sizes = {engine: (policy / "model.safetensors").stat().st_size for engine in folders}
    wanted = [engine for engine in ask.engines if engine in EXPORTED]
    if wanted:
        _export(model, scratch / "export", shape, int8=EXPORTED[1] in wanted)
        manifest = read_manifest(scratch / "export")
        folders |= dict.fromkeys(wanted, scratch / "export")
        sizes |= {engine: _graph_bytes(manifest, engine) for engine in wanted}
    flops = count_flops(model, shape)
    return Subject(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sizes=model.config,
        flops=(flops.episode, flops.step),
        folders=folders,
        size=sizes,
    )


def _exported(ask: Ask, shape: Shape) -> Subject:
    folder = Path(ask.model)
    manifest = read_manifest(folder)
    for engine in ask.engines:
        if engine not in EXPORTED:
            raise InputError(
                f"{folder}: an exported folder holds no weights for {engine}; name the policy "
                f"itself, PRESET or RUN:{engine}"
            )
        manifest.graph(engine, "step")
    config = DuetConfig(**manifest.sizes)
    _check_sizes(config, shape, ask.model)
    model = _blank(config)
    flops = count_flops(model, shape)
    return Subject(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sizes=config,
        flops=(flops.episode, flops.step),
        folders=dict.fromkeys(ask.engines, folder),
        size={engine: _graph_bytes(manifest, engine) for engine in ask.engines},
    )


def _blank(config: DuetConfig) -> DUET:
    """Return a model of these sizes with zeros for weights: enough to count with."""
    with torch.device("meta"):
        model = DUET(config)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def _check_sizes(config: DuetConfig, shape: Shape, name: str) -> None:
    for option, found, most in (
        ("--words", shape.words, config.max_positions),
        ("--steps", shape.steps, config.max_steps - 1),
    ):
        if found > most:
            raise InputError(f"{option} {found}: {name} reads at most {most}; lower it")


def _export(model: DUET, folder: Path, shape: Shape, *, int8: bool) -> None:
    """Write an export to be timed; it is given word ids, so any tokenizer will do."""
    with new_folder(folder) as partial:
        graphs = write_engines(model, partial, int8=int8)
        toy_tokenizer().save(str(partial / TOKENIZER))
        write_manifest(
            partial,
            model,
            graphs,
            views=directions_of(shape.views),
            max_words=model.config.max_positions,
            max_steps=model.config.max_steps - 1,
            about={},
        )


def _graph_bytes(manifest: Manifest, engine: str) -> int:
    graphs = manifest.graphs[engine]
    return sum((manifest.folder / file).stat().st_size for file in graphs.values())


def known(subject: Subject) -> dict[str, Any]:
    """Return what is known of a model before it is timed, as `table.rows_of` reads it."""
    episode, step = subject.flops
    return {
        "parameters": subject.parameters,
        "flops_episode": episode,
        "flops_step": step,
        "bytes": subject.size,
        "sizes": asdict(subject.sizes),
    }
