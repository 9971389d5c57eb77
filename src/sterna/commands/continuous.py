"""`sterna eval --env` and `sterna habitat serve`: evaluation in continuous space."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sterna.commands.common import find_data, parse, say
from sterna.commands.scoring import _summary
from sterna.errors import InputError
from sterna.processes import is_main
from sterna.recipes.options import Common

TOKEN = "STERNA_TOKEN"
PORT = 8791  # as in sterna.envs.habitat_server
URL = f"http://127.0.0.1:{PORT}"


@dataclass(frozen=True, kw_only=True)
class EvalEnv(Common):
    """Walk a split in continuous space, in houses or in a simulator behind HTTP, and score it."""

    env: Literal["house", "habitat"]
    """house: our houses, in this process; habitat: a simulator server (docs/habitat.md)."""
    agent: str = "follower"
    """Controls random, forward, follower (oracle), stay; or the folder of a navigator, exported or
    not."""
    split: str = "val_unseen"
    """Split to walk."""
    task: Literal["vlnce", "rxr-ce"] = "vlnce"
    """Episode files of the data folder: R2R_VLNCE_v1-* or RxR_VLNCE_v*."""
    episodes: Path | None = None
    """Episode file (.json, .json.gz) to walk instead of the data folder's."""
    language: tuple[str, ...] = ()
    """Only episodes in these languages (RxR: en, hi, te)."""
    role: Literal["guide", "follower"] = "guide"
    """RxR-CE: paths of guides, or of followers."""
    release: str | None = None
    """VLN-CE: release of the episodes, such as v1-2 (default: the newest in the data folder)."""
    protocol: str | None = None
    """Name (r2r-ce-v1, rxr-ce-v1, R2R_CE_NAVID, ...) or JSON file; default: the navigator's own,
    else r2r-ce-v1 or rxr-ce-v1."""
    server: tuple[str, ...] = (URL,)
    """Addresses of simulator servers; each serves --slots environments."""
    timeout: float = 120.0
    """Seconds for an answer of a server, in which it may load a scene."""
    coding: Literal["raw", "png", "jpeg"] = "raw"
    """Colour frames of a server: raw, png (smaller), jpeg (smallest, with loss)."""
    slots: int = 8
    """Environments that walk side by side (a worker); no score depends on it."""
    workers: int = 1
    """Threads that step houses."""
    seed: int = 0
    """Seed of the agent's draws."""
    frequencies: tuple[float, float, float, float] = (0.02, 0.64, 0.18, 0.16)
    """Of stop, forward, left, right (random)."""
    forward_steps: int = 37
    """Steps before it stops (forward)."""
    execute: int | None = None
    """Actions of an answer to carry out before looking again (navigators; default: all)."""
    temperature: float = 0.0
    """Draw a navigator's answers at this temperature; 0: the likeliest."""
    engine: Literal["onnx", "onnx-int8", "onnx-static", "onnx-static-int8"] = "onnx"
    """What computes an exported navigator (one in torch has no choice)."""
    rho: float | None = None
    """Budget of an exported routed navigator (default: its usual one)."""
    blind: bool = False
    """Control: black frames (navigators)."""
    limit: int | None = None
    """Walk every k-th episode, about this many."""
    shard: str | None = None
    """Walk share i of n alone, as i/n; the same command without it scores when all are there."""
    skip_unscorable: bool = False
    """Leave episodes out that have no finite score, and name them in the result."""
    out: Path | None = None
    """Folder for tracks, submission and result (default: in the navigator's folder, or here)."""


def evaluate_env(argv: Sequence[str]) -> int:
    """Walk a split in continuous space and score it."""
    args: EvalEnv = parse(EvalEnv, argv, "eval")
    from sterna.metrics import format_result
    from sterna.recipes.controls import CONTROLS
    from sterna.recipes.options import use_threads
    from sterna.recipes.simulated import EvalConfig, run_eval_env

    if args.agent not in CONTROLS:
        use_threads(args.threads)
    config = EvalConfig(
        env=args.env,
        agent=args.agent,
        split=args.split,
        task=args.task,
        episodes=args.episodes,
        languages=args.language,
        role=args.role,
        release=args.release,
        protocol=args.protocol,
        servers=args.server,
        token=os.environ.get(TOKEN) or None,
        timeout=args.timeout,
        coding=args.coding,
        slots=args.slots,
        workers=args.workers,
        seed=args.seed,
        frequencies=args.frequencies,
        forward_steps=args.forward_steps,
        execute=args.execute,
        temperature=args.temperature,
        engine=args.engine,
        rho=args.rho,
        blind=args.blind,
        about=args.limit,
        shard=_shard(args.shard),
        skip=args.skip_unscorable,
    )
    out = args.out or _folder(args, args.agent in CONTROLS)
    root = None if args.episodes is not None else find_data(args.data)
    result = run_eval_env(config, root, out)
    if not is_main():
        return 0
    if result is None:
        what = "this share's tracks" if config.shard else "tracks and submission (no answers here)"
        say(f"{what}: {out}", {"out": str(out), "scores": None}, args.json)
        return 0
    text = f"{format_result(result)}\nresult, tracks and submission: {out}"
    say(text, _summary(result) | {"out": str(out)}, args.json)
    return 0


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None:
        raise InputError(f"--shard: expected i/n, such as 1/4, found {text!r}")
    return int(found[1]), int(found[2])


def _folder(args: EvalEnv, is_control: bool) -> Path:
    """Name a folder such that controls, parts, engines and other protocols do not mix."""
    from sterna.recipes.navigators import is_exported_navigator

    name = f"eval-{args.env}" + f"-{args.agent}" * is_control + "-blind" * args.blind
    name += f"-t{args.temperature:g}" * (args.temperature > 0)
    name += "-follower" * (args.role == "follower") + f"-{args.release}" * bool(args.release)
    if not is_control and is_exported_navigator(Path(args.agent)):
        name += f"-{args.engine}" + ("" if args.rho is None else f"-rho{args.rho:g}")
    name += "-part" * (args.limit is not None)
    name += f"-{Path(args.protocol).stem}" if args.protocol else ""
    return Path(name) if is_control else Path(args.agent) / name


@dataclass(frozen=True, kw_only=True)
class Habitat:
    """Serve houses as a simulator, or get the script that serves Habitat (docs/habitat.md)."""

    write_script: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Copy the script that runs inside your Habitat environment here, and end."""
    houses: bool = False
    """Serve our houses through the same interface."""
    host: str = "127.0.0.1"
    """Address to listen on; one that others can reach needs STERNA_TOKEN."""
    port: int = PORT
    """Port; 0 takes one that is free."""
    protocol: str | None = None
    """Serve the cameras and the body of this protocol alone; default: whatever is asked for."""
    threads: int = 1
    """Threads that render."""
    keep: int = 8
    """Houses that stay open."""
    json: bool = False
    """Print one JSON object."""


def habitat(argv: Sequence[str]) -> int:
    """Serve houses, copy the script, or say where it is."""
    from sterna.envs import habitat_server as server

    args: Habitat = parse(Habitat, argv, "habitat serve")
    script = Path(server.__file__)
    if args.write_script is not None:
        args.write_script.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(script, args.write_script)
        told = f"{args.write_script}: run it in the environment where habitat-sim is installed"
        say(told, {"script": str(args.write_script)}, args.json)
        return 0
    if not args.houses:
        text = (
            f"the script is {script}\ncopy it (--write-script PATH) and run it where habitat-sim "
            f"is installed:\n  python {script.name} --scenes data/scene_datasets\nor serve our "
            "houses through the same interface: sterna habitat serve --houses"
        )
        say(text, {"script": str(script)}, args.json)
        return 0
    return _serve_houses(args)


def _serve_houses(args: Habitat) -> int:
    from sterna.envs import habitat_server as server
    from sterna.envs.house_backend import HouseAnswers, HouseBackend
    from sterna.envs.simulator import settings_of
    from sterna.recipes.simulated import open_protocol

    fixed = None
    if args.protocol is not None:
        fixed = server.check_settings(settings_of(open_protocol(args.protocol), server.SENSORS))
    backend = HouseBackend(threads=args.threads, keep=max(1, args.keep))

    def ready(url: str) -> None:
        text = f"serving houses on {url}; Ctrl-C ends it"
        print(json.dumps({"url": url}) if args.json else text, flush=True)

    try:
        token = os.environ.get(TOKEN) or None
        server.serve(HouseAnswers(backend, fixed), args.host, args.port, token, ready)
    except server.RefusedError as error:
        raise InputError(str(error)) from None
    return 0
