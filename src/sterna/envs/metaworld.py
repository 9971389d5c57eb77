"""Meta-World tasks with a sentence, pictures and seeded scenes (Yu et al., CoRL 2019; extra).

Needs the extra ``metaworld`` and a GL library that draws without a screen: OSMesa or EGL.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.errors import InputError
from sterna.metrics.manipulation import Camera, ManipulationProtocol

ACTION = 4
"""Width of an action: hand dx, dy, dz and gripper closing, each in [-1, 1]."""
PROPRIO = 4
"""Width of what the robot feels: hand x, y, z in metres, gripper opening from 0 to 1."""

SENTENCES = {
    "button-press": "press the button from the front",
    "button-press-topdown": "press the button from above",
    "coffee-button": "press the button of the coffee machine",
    "door-close": "close the door",
    "door-open": "open the door",
    "drawer-close": "close the drawer",
    "drawer-open": "open the drawer",
    "faucet-close": "turn the faucet clockwise",
    "faucet-open": "turn the faucet counter-clockwise",
    "handle-press": "press the handle down",
    "handle-pull": "pull the handle up",
    "lever-pull": "pull the lever up",
    "plate-slide": "slide the plate into the cabinet",
    "push": "push the puck to the goal",
    "reach": "reach the goal",
    "window-close": "close the window",
    "window-open": "open the window",
}
"""The instruction of each task, in small letters."""

_VIEW = "topview"
_UNSEEN = ("base", "pedestal", "head", "l0", "l1")
"""Parts of the robot that the overhead camera never sees: half of all triangles."""


@dataclass(frozen=True)
class Observation:
    """What a policy is given: pictures [K, S, S, 3] of K cameras, proprio [4], the sentence."""

    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    sentence: str


def sentence(task: str) -> str:
    """Return the instruction of a task; `InputError` lists the tasks if there is no such one."""
    if task not in SENTENCES:
        raise InputError(f"no task {task!r}; expected one of {', '.join(sorted(SENTENCES))}")
    return SENTENCES[task]


def choose_gl() -> str:
    """Return the GL back-end in use; where none was asked for, take one that needs no screen.

    MuJoCo reads MUJOCO_GL when it is first imported. OSMesa draws on the CPU alone; EGL is taken
    where only that is installed.
    """
    if "MUJOCO_GL" not in os.environ and sys.platform.startswith("linux"):
        found = [name for name in ("OSMesa", "EGL") if ctypes.util.find_library(name)]
        if not found:
            raise InputError(
                "Meta-World needs a GL library that draws without a screen; install OSMesa "
                "(Debian: apt install libosmesa6) or EGL (libegl1 libgl1-mesa-dri)"
            )
        os.environ["MUJOCO_GL"] = found[0].lower()
    os.environ.setdefault("LP_NUM_THREADS", "1")  # a software renderer fights for no more cores
    return os.environ.get("MUJOCO_GL", "")


def check_installed() -> None:
    """Raise `InputError` unless the extra is installed; whether it can draw, tasks find out."""
    missing = [name for name in ("mujoco", "metaworld") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"Meta-World needs {', '.join(missing)}, not installed; pip install 'sterna[metaworld]'"
        )


@lru_cache(maxsize=1)
def _modules() -> tuple[Any, Any, Any]:
    """Import (mujoco, environments by name, experts by name)."""
    choose_gl()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mujoco = import_module("mujoco")
            made = import_module("metaworld.env_dict").ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
            experts = import_module("metaworld.policies").ENV_POLICY_MAP
    except (ImportError, AttributeError) as error:  # a broken GL library fails in both ways
        raise InputError(
            f"Meta-World cannot be used ({error}); pip install 'sterna[metaworld]', and see "
            "docs/metaworld.md for the GL library"
        ) from error
    return mujoco, made, experts


class MetaworldTask:
    """One task; scenes are functions of the seed alone, pictures are drawn when asked for."""

    def __init__(self, task: str, protocol: ManipulationProtocol) -> None:
        """Build the simulator (about 0.3 s)."""
        self.task, self.sentence, self.protocol = task, sentence(task), protocol
        self._mujoco, made, experts = _modules()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.env = made[f"{task}-v3-goal-observable"]()
        self._expert = experts[f"{task}-v3"]
        # A new scene at every reset, drawn from the environment's own seeded generator.
        self.env._freeze_rand_vec, self.env.seeded_rand_vec = False, True
        model = self.env.model
        # Without shadows, reflections and smoothing a picture takes 7 ms instead of 120.
        model.vis.quality.shadowsize, model.vis.quality.offsamples = 0, 0
        model.mat_reflectance[:] = 0
        if protocol.cameras == (Camera(),):
            _hide(model, _UNSEEN)
        self._view = model.camera(_VIEW).id
        self._renderer: Any = None
        self._state = np.zeros(39)
        self.steps = 0

    def reset(self, seed: int) -> None:
        """Begin the episode of a seed."""
        self.env.seed(int(seed))
        self._state, _ = self.env.reset()
        self.steps = 0

    def step(self, action: NDArray[Any]) -> bool:
        """Act once (values are clipped to [-1, 1]); return whether the task is done now."""
        if not np.isfinite(action).all():
            raise InputError(f"{self.task}: the action {np.asarray(action).tolist()} is not finite")
        self._state, _, _, _, info = self.env.step(np.clip(action, -1.0, 1.0).astype(np.float32))
        self.steps += 1
        return bool(info["success"])

    def expert_action(self) -> NDArray[np.float32]:
        """Return what the scripted expert does here, clipped to [-1, 1], float32 [4]."""
        if self.steps == 0:
            self._policy = self._expert()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of actions that are clipped anyway
            action = np.asarray(self._policy.get_action(self._state), np.float32)
        return np.clip(action, np.float32(-1.0), np.float32(1.0))

    def proprio(self) -> NDArray[np.float32]:
        """Return hand position (metres) and gripper opening, float32 [4]."""
        return self._state[:PROPRIO].astype(np.float32)

    def images(self) -> NDArray[np.uint8]:
        """Draw the scene, uint8 [K, S, S, 3]."""
        if self._renderer is None:
            size = self.protocol.image_size
            self._renderer = self._mujoco.Renderer(self.env.model, size, size)
        return np.stack([self._draw(camera) for camera in self.protocol.cameras])

    def _draw(self, camera: Camera) -> NDArray[np.uint8]:
        model = self.env.model
        model.cam_pos[self._view], model.cam_fovy[self._view] = camera.position, camera.fovy
        self._mujoco.mj_camlight(model, self.env.data)  # moves the camera to where it now is
        self._renderer.update_scene(self.env.data, camera=_VIEW)
        picture: NDArray[np.uint8] = self._renderer.render().copy()
        return picture

    def observe(self) -> Observation:
        """Return what a policy is given now."""
        return Observation(self.images(), self.proprio(), self.sentence)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _hide(model: Any, meshes: tuple[str, ...]) -> None:
    """Draw the geoms of some meshes no more (a picture in which they are not stays the same)."""
    for geom in range(model.ngeom):
        mesh = int(model.geom_dataid[geom])
        if mesh >= 0 and model.mesh(mesh).name in meshes:
            model.geom_rgba[geom, 3] = 0.0
