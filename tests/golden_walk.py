"""Greedy walks written down decision by decision, as golden set C stores them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from golden_world import by_name
from sterna.models.agent import Agent
from sterna.models.topomap import MapRows

TOLERANCE = 1e-5
Decision = dict[str, Any]


class Recording(Agent):
    """An agent that writes down every decision, keyed by viewpoint."""

    def reset(self, episodes, topomap, text=None):  # type: ignore[no-untyped-def]
        super().reset(episodes, topomap, text)
        self.names = [e.instr_id for e in episodes]
        self.seen: dict[str, list[Decision]] = {name: [] for name in self.names}

    def act(self, rows: MapRows) -> torch.Tensor:
        with torch.no_grad():
            out = self.navigate(rows)
        fused, global_, local = (t.numpy() for t in (out.fused, out.global_, out.local))
        panoramas = self.encoder.panoramas
        atlas = self.map.atlas
        for r, agent in enumerate(rows.agent):
            candidates = np.where(rows.candidates[r] > 0, rows.nodes[r][rows.candidates[r]], -1)
            count = int((rows.candidates[r] > 0).sum())
            self.seen[self.names[agent]].append(
                {
                    "vp": atlas.viewpoints[rows.node[r]],
                    "view": int(rows.pose[r]),
                    "visited": by_name(atlas, rows.nodes[r], rows.visited[r]),
                    "fused": by_name(atlas, rows.nodes[r], fused[r]),
                    "global": by_name(atlas, rows.nodes[r], global_[r]),
                    "local": by_name(atlas, candidates[:count], local[r, 1 : 1 + count]),
                    "stop": [float(x[r, 0]) for x in (fused, global_, local)],
                    "pano_tokens": int(panoramas.lengths[rows.node[r]]),
                }
            )
            if out.object_logits is not None:
                begin, end = (x[rows.node[r]] for x in (panoramas.view_lengths, panoramas.lengths))
                self.seen[self.names[agent]][-1]["objects"] = dict(
                    zip(
                        panoramas.object_ids[rows.node[r], : end - begin].tolist(),
                        out.object_logits[r, 1 + begin : 1 + end].tolist(),
                        strict=True,
                    )
                )
        return out.fused


def expected(step: Decision) -> Decision:
    """A stored decision in the same form; null is -inf."""

    def numbers(values: list[float | None]) -> list[float]:
        return [-np.inf if v is None else v for v in values]

    fused, global_, local = (numbers(step[k]) for k in ("fused", "global", "local"))
    return {
        "vp": step["vp"],
        "view": step["view"],
        "visited": {name: i < step["visited"] for i, name in enumerate(step["map"])},
        "fused": dict(zip(step["map"], fused[1:], strict=True)),
        "global": dict(zip(step["map"], global_[1:], strict=True)),
        "local": dict(zip(step["cand"], local[1:], strict=True)),
        "stop": [fused[0], global_[0], local[0]],
        "pano_tokens": step["pano_tokens"],
    }


def compare(found: Decision, wanted: Decision) -> None:
    for key in ("vp", "view", "visited", "pano_tokens"):
        assert found[key] == wanted[key], key
    for key in ("fused", "global", "local"):
        assert found[key].keys() == wanted[key].keys(), key
        mine = [found[key][name] for name in wanted[key]]
        np.testing.assert_allclose(mine, list(wanted[key].values()), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found["stop"], wanted["stop"], rtol=0, atol=TOLERANCE)
