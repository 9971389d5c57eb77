"""Egocentric walks for training navigators (VLN-Ego): stored once a step, sampled on the fly."""

from sterna.data.ego.samples import EgoSample, EgoSamples
from sterna.data.ego.store import EgoCamera, EgoEpisode, EgoStore
from sterna.data.ego.writer import EgoWriter, Walk
from sterna.world.talk.memory import KINDS, history

__all__ = [
    "KINDS",
    "EgoCamera",
    "EgoEpisode",
    "EgoSample",
    "EgoSamples",
    "EgoStore",
    "EgoWriter",
    "Walk",
    "history",
]
