"""Models made ready to be timed: presets and policies exported for it, exports as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sterna.actdistill.adapters.duet import DuetStack
from sterna.actdistill.adapters.navigator import NavigatorStack
from sterna.actdistill.stack import Stack
from sterna.edge.asked_folder import export_navigator
from sterna.edge.bench.episode import Shape, directions_of
from sterna.edge.bench.flops import count_flops
from sterna.edge.bench.routed_saved import save_routed
from sterna.edge.card import CARD
from sterna.edge.export import TOKENIZER, new_folder, write_engines, write_manifest
from sterna.edge.routed import RoutedGraph
from sterna.edge.routed_files import Routed, write_routed
from sterna.edge.routed_folder import export_actor, flops_of, routes_of
from sterna.edge.runtime import ENGINES as EXPORTED
from sterna.edge.runtime import Manifest, read_manifest
from sterna.edge.runtime.answerer import ROUTE
from sterna.edge.runtime.folder import (
    ACTOR,
    MANIFEST,
    NAVIGATOR,
    ROUTED_ENGINES,
    is_export,
    kind_of,
    proven,
)
from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.presets import PRESETS, preset
from sterna.models.pretrained import save_pretrained
from sterna.models.vla import Vla
from sterna.recipes.asking import navigator_folder, open_stack
from sterna.recipes.policies import open_policy, policy_folder
from sterna.recipes.routed import POLICY
from sterna.recipes.routed_export import actor_folder, is_actor, is_student, open_routed
from sterna.recipes.toyworld import toy_tokenizer

ENGINES = ("torch", "torch-compile", *EXPORTED, *ROUTED_ENGINES)
"""In torch as it is, through torch.compile, in ONNX Runtime with float32 and with int8;
of routed policies also static graphs."""


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
    sizes: Any
    """A dataclass."""
    flops: tuple[int, float]
    folders: dict[str, Path]
    size: dict[str, int] = field(default_factory=dict)
    routed: bool = False


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
        return tuple(read_json(Path(model) / MANIFEST)["graphs"])
    if routed_folder(model) or navigator_folder(Path(model)):
        return ("torch", *EXPORTED)
    return ("torch", "torch-compile", *EXPORTED)


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
    if ask.exported and kind_of(Path(ask.model)) == ACTOR:
        return _exported_actor(ask)
    if ask.exported and kind_of(Path(ask.model)) == NAVIGATOR:
        return _exported_navigator(ask)
    if ask.exported:
        return _exported(ask, shape)
    if routed_folder(ask.model):
        return _routed(ask, shape, scratch)
    if answers(ask):
        return _navigator(ask, scratch)
    if bad := [engine for engine in ask.engines if engine in ROUTED_ENGINES]:
        raise InputError(f"{ask.model}: {bad[0]} is for routed policies; leave it out")
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


def routed_folder(model: str) -> bool:
    """Say whether a model is a student of ActDistill, or a policy of actions."""
    if model in PRESETS or _is_export(model):
        return False
    return is_student(Path(model)) or is_actor(Path(model))


def acts(ask: Ask) -> bool:
    """Say whether a model is a policy from observations to actions."""
    if ask.model in PRESETS:
        return False
    folder = Path(ask.model)
    if ask.exported:
        return kind_of(folder) == ACTOR
    return is_actor(policy_of(folder))


def answers(ask: Ask) -> bool:
    """Say whether a model is a navigator that answers in words."""
    if ask.model in PRESETS:
        return False
    folder = Path(ask.model)
    if ask.exported:
        return kind_of(folder) == NAVIGATOR
    return navigator_folder(folder / POLICY if is_student(folder) else folder) is not None


def policy_of(model: Path) -> Path:
    """Return where the weights of a model lie."""
    return model / POLICY if is_student(model) else actor_folder(model)


def _sizes(stack: Stack) -> Any:
    """Return the configuration of a routed model; None of one that answers in words."""
    if isinstance(stack, NavigatorStack):
        return None
    model = stack.model
    assert isinstance(model, DUET | Vla)
    return model.config


def _routed(ask: Ask, shape: Shape, scratch: Path) -> Subject:
    """Make a routed policy ready: in torch at its budget, and exported."""
    routed = open_routed(Path(ask.model), shape.rho if is_student(Path(ask.model)) else None)
    folders: dict[str, Path] = {}
    size: dict[str, int] = {}
    if "torch-compile" in ask.engines:
        raise InputError(f"{ask.model}: routed policies are not compiled; leave torch-compile out")
    if "torch" in ask.engines:
        own = Path(ask.model)
        routes = is_student(own)
        folders["torch"] = save_routed(routed, scratch / "policy") if routes else policy_of(own)
        size["torch"] = (folders["torch"] / "model.safetensors").stat().st_size
    wanted = [engine for engine in ask.engines if engine not in folders]
    if wanted:
        to, int8 = scratch / "export", any(engine.endswith("int8") for engine in wanted)
        static = any(engine in ROUTED_ENGINES for engine in wanted)
        graphs = _export_routed(routed, to, shape, int8, routed.static() if static else None)
        folders |= dict.fromkeys(wanted, to)
        for engine in wanted:
            size[engine] = sum((to / file).stat().st_size for file in graphs[engine].values())
    return Subject(
        parameters=sum(p.numel() for p in routed.stack.parameters()),
        sizes=_sizes(routed.stack),
        flops=_work(routed, shape),
        folders=folders,
        size=size,
        routed=is_student(Path(ask.model)),
    )


def _work(routed: Routed, shape: Shape) -> tuple[int, float]:
    """Return what runs of a DUET; of other policies the arms tell (of actions: all units)."""
    if isinstance(routed.stack, DuetStack):
        flops = count_flops(routed.stack.model, shape, (routed.router, routed.threshold))
        return flops.episode, flops.step
    if isinstance(routed.stack, NavigatorStack):
        return 0, 0.0
    base, each = flops_of(RoutedGraph(routed.stack, routed.router))
    return int((base + sum(each)) * shape.steps), base + sum(each)


def _export_routed(
    routed: Routed, to: Path, shape: Shape, int8: bool, keep: Sequence[int] | None
) -> dict[str, dict[str, str]]:
    if isinstance(routed.stack, NavigatorStack):
        export_navigator(routed.stack, to, routed=routed, int8=int8, keep=keep)
        found: dict[str, dict[str, str]] = read_json(to / MANIFEST)["graphs"]
        return found
    if not isinstance(routed.stack, DuetStack):
        export_actor(routed, to, int8=int8, keep=keep)
        graphs: dict[str, dict[str, str]] = read_json(to / MANIFEST)["graphs"]
        return graphs
    model = routed.stack.model
    with new_folder(to) as partial:
        graphs = write_routed(routed, partial, int8=int8, keep=keep)
        toy_tokenizer().save(str(partial / TOKENIZER))
        write_manifest(
            partial,
            model,
            graphs,
            views=directions_of(shape.views),
            max_words=model.config.max_positions,
            max_steps=model.config.max_steps - 1,
            about={},
            routes=routes_of(routed, keep),
        )
    return graphs


def _navigator(ask: Ask, scratch: Path) -> Subject:
    """Make a navigator without a router ready."""
    odd = [engine for engine in ask.engines if engine not in ("torch", *EXPORTED)]
    if odd:
        raise InputError(f"{ask.model}: a navigator does not run on {odd[0]}; leave it out")
    own = navigator_folder(Path(ask.model))
    assert own is not None
    stack = open_stack(own)
    folders, size = {}, {}
    if "torch" in ask.engines:
        folders["torch"] = own
        size["torch"] = sum(file.stat().st_size for file in own.glob("*.safetensors"))
    wanted = [engine for engine in ask.engines if engine in EXPORTED]
    if wanted:
        to = scratch / "export"
        export_navigator(stack, to, int8=EXPORTED[1] in wanted)
        graphs = read_json(to / MANIFEST)["graphs"]
        folders |= dict.fromkeys(wanted, to)
        for engine in wanted:
            size[engine] = sum((to / file).stat().st_size for file in graphs[engine].values())
    return Subject(
        parameters=sum(p.numel() for p in stack.model.parameters()),
        sizes=None,
        flops=(0, 0.0),
        folders=folders,
        size=size,
    )


def _exported_navigator(ask: Ask) -> Subject:
    folder = Path(ask.model)
    manifest = proven(folder, NAVIGATOR)
    missing = [engine for engine in ask.engines if engine not in manifest["graphs"]]
    if missing:
        raise InputError(f"{folder}: holds no engine {missing[0]!r}; export it so")
    return Subject(
        parameters=read_json(folder / CARD)["parameters"],
        sizes=None,
        flops=(0, 0.0),
        folders=dict.fromkeys(ask.engines, folder),
        size={
            engine: sum((folder / f).stat().st_size for f in manifest["graphs"][engine].values())
            for engine in ask.engines
        },
        routed=any(ROUTE in graphs for graphs in manifest["graphs"].values()),
    )


def _exported_actor(ask: Ask) -> Subject:
    folder = Path(ask.model)
    manifest = proven(folder, ACTOR)
    missing = [engine for engine in ask.engines if engine not in manifest["graphs"]]
    if missing:
        raise InputError(f"{folder}: holds no engine {missing[0]!r}; export it so")
    routes, card = manifest["routes"], read_json(folder / CARD)
    total = routes["base_flops"] + sum(routes["unit_flops"])
    return Subject(
        parameters=card["parameters"],
        sizes=None,
        flops=(int(total), total),
        folders=dict.fromkeys(ask.engines, folder),
        size={
            engine: sum((folder / f).stat().st_size for f in manifest["graphs"][engine].values())
            for engine in ask.engines
        },
        routed=True,
    )


def _exported(ask: Ask, shape: Shape) -> Subject:
    folder = Path(ask.model)
    manifest = read_manifest(folder)
    for engine in ask.engines:
        if engine not in (*EXPORTED, *ROUTED_ENGINES):
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
        routed=manifest.routes is not None,
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
        "sizes": None if subject.sizes is None else asdict(subject.sizes),
    }
