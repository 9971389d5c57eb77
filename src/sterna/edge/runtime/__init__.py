"""The runtime: an exported navigator on a computer without torch.

Needs numpy, onnxruntime, tokenizers and the standard library, and of sterna itself only what
stands here, `sterna.errors`, `sterna.files` and `sterna.world.geometry`.

>>> navigator = Navigator(Engine.open("student-edge", "onnx-int8"))
>>> navigator.start("Walk past the sofa and stop at the stairs.")
>>> decision = navigator.step(Observation(...))  # where to go, or to stop, and by which way
"""

from sterna.edge.runtime.engine import Engine
from sterna.edge.runtime.folder import ENGINES, Manifest, read_manifest
from sterna.edge.runtime.navigator import Decision, Navigator, Scores
from sterna.edge.runtime.panorama import Neighbour, Objects, Observation
from sterna.edge.runtime.topomap import TopoMap

__all__ = [
    "ENGINES",
    "Decision",
    "Engine",
    "Manifest",
    "Navigator",
    "Neighbour",
    "Objects",
    "Observation",
    "Scores",
    "TopoMap",
    "read_manifest",
]
