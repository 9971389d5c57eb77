"""A routed vision-language-action policy: decides with its gates, kept in a folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from sterna import files
from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.router import Router, RouterConfig
from sterna.actdistill.stack import Decide, RouterInput, act, everything
from sterna.errors import InputError
from sterna.models.vla import VlaBatch
from sterna.models.vla_folder import from_pretrained, save_pretrained
from sterna.models.weights import read_tensors, require_same

ROUTER, ROUTER_WEIGHTS = "router.json", "router.safetensors"


class RoutedVla:
    """Predicts chunks with the units that the gates keep, and counts how often each ran."""

    def __init__(self, stack: VlaStack, decide: Decide | None = None) -> None:
        """Without `decide` every unit runs."""
        self.stack, self._decide = stack.eval(), decide or everything(stack)
        self.forget()

    def forget(self) -> None:
        """Begin counting anew."""
        self.rows, self.ran = 0, torch.zeros(len(self.stack.units), dtype=torch.float64)

    @property
    def frequencies(self) -> list[float]:
        """Share of decisions that each unit ran in."""
        found: list[float] = (self.ran / max(1, self.rows)).tolist()
        return found

    @torch.no_grad()
    def __call__(self, batch: VlaBatch) -> Tensor:
        """Return chunks [B, T, A]."""
        actions, gates = act(self.stack, batch, self._decide)
        self.rows += len(batch)
        self.ran += gates[0].double().sum(0).cpu()
        return actions


def save_routed(
    stack: VlaStack, router: Router, threshold: float, folder: Path, *, notes: str = ""
) -> None:
    """Write the policy as `save_pretrained` does, with its router and threshold beside it."""
    save_pretrained(stack.model, folder, notes=notes)
    state = {name: value.detach().cpu().contiguous() for name, value in router.state_dict().items()}
    files.write_bytes(folder / ROUTER_WEIGHTS, save(state, metadata={"format": "pt"}))
    files.write_json(folder / ROUTER, {"router": asdict(router.config), "threshold": threshold})


def load_routed(folder: Path) -> tuple[VlaStack, Router, float]:
    """Load what `save_routed` wrote, strictly, in eval mode."""
    stack = VlaStack(from_pretrained(folder))
    values: Any = files.read_json(folder / ROUTER)
    try:
        config, threshold = RouterConfig(**values["router"]), float(values["threshold"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / ROUTER}: not a router ({error}); distil again") from error
    router = Router(stack, config)
    state = read_tensors(folder / ROUTER_WEIGHTS)
    expected = {name: tuple(value.shape) for name, value in router.state_dict().items()}
    require_same(expected, state, str(folder / ROUTER_WEIGHTS))
    router.load_state_dict(state)
    return stack, router.eval(), threshold


@torch.no_grad()
def all_logits(stack: VlaStack, router: Router, batches: list[VlaBatch]) -> Tensor:
    """Return the router's logits [R, U] of all rows of some batches, in eval mode."""
    router.eval()

    def seen(batch: VlaBatch) -> RouterInput:
        return stack.router_input(stack.prepare(batch), 0)

    return torch.cat([router.logits(0, seen(batch)) for batch in batches])
