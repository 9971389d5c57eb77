"""Floating-point operations of what runs, counted while it runs; skipped units count nothing.

Two a multiplication with its addition; matrix products, convolutions and attention (torch's own
convention). The fused attention of CPUs counts as nothing there, so attention made of plain
products runs while counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let no parameter ask for gradients (the counter trips over views of those that do)."""
    learning = [p for p in module.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def counted(module: nn.Module, work: Callable[[], Any]) -> int:
    """Return the FLOPs of a piece of work that a module does, without gradient."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # counts as nothing too
    try:
        plain, counter = sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False)
        with frozen(module), torch.no_grad(), plain, counter:
            work()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())
