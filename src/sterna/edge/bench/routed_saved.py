"""Policies in folders for torch arms: weights, and for routed ones the router and its threshold."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save

from sterna.actdistill.adapters.duet import DuetStack
from sterna.actdistill.adapters.navigator import NavigatorStack
from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.router import Router, RouterConfig
from sterna.actdistill.stack import Stack
from sterna.edge.asked_folder import TorchAnswerer
from sterna.edge.routed import RoutedGraph
from sterna.edge.routed_files import Routed
from sterna.edge.routed_folder import Feed, flops_of, in_torch
from sterna.edge.runtime.actor import Actor
from sterna.errors import InputError
from sterna.files import read_bytes, read_json, write_bytes, write_json
from sterna.models.navigator.folder import SETTINGS
from sterna.models.navigator.folder import load as load_navigator
from sterna.models.navigator.folder import save as save_navigator
from sterna.models.pretrained import from_pretrained, save_pretrained
from sterna.models.vla_folder import from_pretrained as open_vla

ROUTER, WEIGHTS = "router.json", "router.safetensors"


def save_routed(routed: Routed, folder: Path) -> Path:
    """Write a routed policy at its budget; returns the folder."""
    stack = routed.stack
    if isinstance(stack, DuetStack):
        save_pretrained(stack.model, folder)
    elif isinstance(stack, VlaStack):
        stack.model.save_pretrained(folder)
    elif isinstance(stack, NavigatorStack):
        save_navigator(stack.model, folder)
    else:
        raise InputError(f"bench: {type(stack).__name__} has no folder of its own kind")
    router = {k: v.detach().contiguous() for k, v in routed.router.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(router))
    config = asdict(routed.router.config)
    write_json(folder / ROUTER, {"router": config, "threshold": routed.threshold})
    return folder


def router_of(folder: Path, stack: Stack) -> tuple[Router, float] | None:
    """Return the router in a folder with its threshold, None where there is none."""
    if not (folder / ROUTER).is_file():
        return None
    values = read_json(folder / ROUTER)
    router = Router(stack, RouterConfig(**values["router"]))
    router.load_state_dict(load(read_bytes(folder / WEIGHTS)))
    return router.eval(), float(values["threshold"])


def is_vla(folder: Path) -> bool:
    """Say whether a folder holds a small vision-language-action policy."""
    return bool(read_json(folder / "config.json").get("model") == "VLA")


def is_navigator(folder: Path) -> bool:
    """Say whether a folder holds a navigator that answers in words."""
    return (folder / SETTINGS).is_file()


def open_answerer(folder: Path, *, threads: int = 1) -> TorchAnswerer:
    """Open a navigator in torch, with its router if it has one; threads hold for the process."""
    torch.set_num_threads(threads)
    stack = NavigatorStack(load_navigator(folder))
    return TorchAnswerer(stack, *(router_of(folder, stack) or ()))


class TorchActor(Actor):
    """A policy from observations to actions in torch, behind the interface of the runtime."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        """Open a folder; threads hold for the whole process."""
        torch.set_num_threads(threads)
        stack = VlaStack(open_vla(folder))
        found = router_of(folder, stack)
        router, threshold = found or (None, 0.0)
        self._graph = RoutedGraph(stack, router).eval()
        self.name, self.threads = "torch", threads
        base, each = flops_of(self._graph)
        inputs = self._graph.form.inputs
        self._take(
            {
                "inputs": {
                    name: {"shape": list(value.shape), "dtype": str(value.numpy().dtype)}
                    for name, value in inputs.items()
                },
                "sizes": self._graph.form.sizes,
                "routes": {
                    "units": [unit.name for unit in stack.units],
                    "base_flops": base,
                    "unit_flops": each,
                },
            },
            threshold,
        )

    def run(self, feed: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return actions and gates; skipped units are not run."""
        given: Feed = dict(feed)
        actions, gates = in_torch(self._graph, self.threshold, given)
        return actions.numpy(), gates.numpy()


def open_duet(folder: Path) -> tuple[Any, tuple[Router, float] | None]:
    """Return a DUET and its router, if it has one."""
    model = from_pretrained(folder, check=False).float()
    return model, router_of(folder, DuetStack(model))
