"""bfloat16 products over varying row counts: plain linears against linears on the grid.

Ratios within one run, one thread.

Usage: python benchmarks/linear.py [--json]
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from torch import nn

from sterna.models.linear import Linear


def seconds(module: nn.Module, inputs: list[torch.Tensor]) -> float:
    """Time a forward and backward pass over inputs, sizes never met before included."""
    begin = time.perf_counter()
    for x in inputs:
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x)
        y.float().sum().backward()
    return (time.perf_counter() - begin) / len(inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1000, 3000, (60,), generator=generator).tolist()
    inputs = [torch.randn(n, 384, generator=generator).requires_grad_() for n in sizes]
    grid, plain = Linear(384, 1536), nn.Linear(384, 1536)
    for module in (grid, plain):
        seconds(module, inputs[:2])
    found = {"plain_ms": 1e3 * seconds(plain, inputs), "grid_ms": 1e3 * seconds(grid, inputs)}
    found["ratio"] = found["plain_ms"] / found["grid_ms"]
    print(
        json.dumps(found)
        if args.json
        else f"plain {found['plain_ms']:.1f} ms, grid "
        f"{found['grid_ms']:.1f} ms a pass: {found['ratio']:.1f} times faster"
    )


if __name__ == "__main__":
    main()
