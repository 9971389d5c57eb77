"""A world as the edge runtime is shown it."""

from __future__ import annotations

from sterna.edge.walks import Rooms
from sterna.envs.graph_env import Panoramas
from sterna.recipes.world import World


def rooms_of(world: World, panoramas: Panoramas) -> Rooms:
    """Return what the runtime sees at every node of laid-out panoramas."""
    store = world.views
    return Rooms(panoramas, store.headings, store.elevations, world.objects(panoramas.atlas))
