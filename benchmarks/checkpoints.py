"""Convert a checkpoint of every published kind at its full size, there and back, and compare.

Each file is made of random values under the names and shapes of the original (tests/models/fixtures
and docs/weights.md), converted to a policy folder, converted back and compared: keys, their order,
shapes, types, values, epochs. Reported: entries, parameters, seconds of each direction, and what
was unused. A kind takes up to 4 GB in the scratch folder.

Usage: python benchmarks/checkpoints.py [--kinds duet-r2r:navigation ...] [--scratch DIR] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from published_weights import KINDS, checkpoint, published, same
from sterna.models.original import convert_checkpoint, restore_checkpoint


def measure(kind: str, folder: Path) -> dict[str, Any]:
    content = checkpoint(published(kind), kind.rsplit(":", 1)[1])
    torch.save(content, folder / "original")
    start = time.perf_counter()
    there = convert_checkpoint(folder / "original", folder / "policy")
    middle = time.perf_counter()
    restore_checkpoint(folder / "policy", folder / "back")
    end = time.perf_counter()
    same(torch.load(folder / "back", weights_only=True, mmap=True), content)
    return {
        "kind": kind,
        "family": there.family,
        "entries": len(published(kind)),
        "taken": len(there.taken),
        "unused": len(there.unused),
        "parameters": there.parameters,
        "seconds": [round(middle - start, 1), round(end - middle, 1)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for kind in args.kinds:
        with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
            rows.append(measure(kind, Path(folder)))
        row = rows[-1]
        if not args.json:
            print(
                f"{kind:28} {row['family']:28} {row['entries']} entries, {row['taken']} taken, "
                f"{row['unused']} unused, {row['parameters']:,} parameters, there and back in "
                f"{row['seconds'][0]} + {row['seconds'][1]} s: identical",
                flush=True,
            )
    if args.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
