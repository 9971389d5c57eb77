"""A simulator behind HTTP: runs alone, inside the environment where Habitat is installed.

One file, Python 3.6 or newer, numpy and the standard library; nothing of sterna is imported::

    python habitat_server.py --scenes data/scene_datasets

It answers questions about scenes (where can an agent stand, where does a step end, how far is the
goal, what is seen from here) and knows nothing of episodes, agents or scores: every question says
all that it needs, so it may be asked twice, by many, and after a restart. All calls of Habitat are
in `HabitatBackend`. Questions are answered one after the other in the main thread, which owns the
graphics context; run one server a graphics card or core and give all of their addresses.

On the wire: Habitat's frame (x right, y up, -z forward), metres, and yaw in radians about +y. A
question is JSON, an answer is the length of a JSON header (4 bytes, little-endian), that header,
and the arrays it points to. Endpoints: GET /about, POST /settings, POST /ask.
"""

import argparse
import hashlib
import hmac
import io
import json
import math
import os
import queue
import re
import signal
import socket
import socketserver
import struct
import sys
import threading
import traceback
import zlib
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

SERVICE = "sterna-simulator"
WIRE = 1  # changes when a question or an answer does; both sides must speak the same
DEFAULT_PORT = 8791

MAX_BODY = 2 * 2**20  # bytes of a question
MAX_ANSWER = 256 * 2**20  # bytes of an answer
MAX_QUESTIONS, MAX_POINTS = 64, 65536
MAX_CONNECTIONS, MAX_SETTINGS = 256, 16
READ_SECONDS, IDLE_SECONDS = 30.0, 900.0
SENSORS = ("rgb", "depth")
# name: (type, least, most); cameras and body as in sterna's protocols
_SETTINGS: Dict[str, Tuple[Callable[[Any], Any], float, float]] = {
    "camera_width": (int, 1, 4096),
    "camera_height": (int, 1, 4096),
    "camera_hfov": (float, 1.0, 179.0),
    "depth_width": (int, 1, 4096),
    "depth_height": (int, 1, 4096),
    "depth_hfov": (float, 1.0, 179.0),
    "agent_radius": (float, 0.001, 10.0),
    "agent_height": (float, 0.01, 10.0),
}
Settings = Dict[str, Any]


class RefusedError(Exception):
    """A question that cannot be answered; `kind` says to the client what to make of it."""

    def __init__(self, text: str, kind: str = "input", status: int = 400) -> None:
        super().__init__(text)
        self.kind, self.status = kind, status


# ---- what simulates -------------------------------------------------------------------------


class World:
    """One scene, with one body and one pair of cameras. Points [n, 3], yaws [n], Habitat's frame.

    Subclass it to put another simulator behind this server.
    """

    def snap(self, points: Any) -> Any:
        """Nearest points where an agent may be; points where it may are kept."""
        raise NotImplementedError

    def navigable(self, points: Any) -> Any:
        """Whether an agent may be at each point, bool [n]."""
        raise NotImplementedError

    def move(self, points: Any, yaws: Any, distance: float, sliding: bool) -> Tuple[Any, Any]:
        """Walk; where it ends [n, 3], and whether something was met [n]."""
        raise NotImplementedError

    def distances(self, points: Any, goal: Any) -> Any:
        """Geodesic metres to a goal [3], infinite where no way leads."""
        raise NotImplementedError

    def path(self, start: Any, goal: Any) -> Any:
        """Corners [m, 3] of the shortest way; [0, 3] if there is none."""
        raise NotImplementedError

    def topdown(self, height: float, metres_per_pixel: float) -> Tuple[Any, float, float]:
        """Walkable area as bool [rows, columns], row 0 at the least z; its least x and least z."""
        raise NotImplementedError

    def look(self, eyes: Any, yaws: Any, sensor: str) -> Any:
        """Frames seen from eyes: rgb uint8 [n, h, w, 3], depth float32 [n, h, w] in metres."""
        raise NotImplementedError

    def close(self) -> None:
        """Free what the scene holds."""


class Backend:
    """Opens scenes; `keep` of them stay open."""

    name = "none"
    keep = 1

    def versions(self) -> Dict[str, str]:
        """Versions worth knowing when something differs."""
        return {"python": sys.version.split()[0], "numpy": np.__version__}

    def open(self, scene: str, settings: Settings) -> World:
        """Open a scene; `RefusedError` if there is none of that name."""
        raise NotImplementedError


class HabitatBackend(Backend):
    """habitat-sim, 0.1.7 to 0.3; every call of it stands in this class and in `HabitatWorld`."""

    def __init__(self, scenes: str, gpu: int = 0, keep: int = 1, navmesh: str = "auto") -> None:
        try:
            import habitat_sim
        except ImportError as error:
            raise SystemExit(
                "habitat server: no habitat-sim in this Python ({}); run it in the environment "
                "where habitat-sim is installed, or try --backend plane".format(error)
            ) from None
        self.sim: Any = habitat_sim
        self.scenes, self.gpu, self.keep, self.navmesh = scenes, gpu, keep, navmesh
        self.name = "habitat-sim"

    def versions(self) -> Dict[str, str]:
        """With habitat-sim's own."""
        found = super().versions()
        found["habitat-sim"] = str(getattr(self.sim, "__version__", "unknown"))
        return found

    def open(self, scene: str, settings: Settings) -> World:
        """Open ``<scenes>/<scene>`` with its navigation mesh."""
        return HabitatWorld(self.sim, self._file(scene), settings, self.gpu, self.navmesh)

    def _file(self, scene: str) -> str:
        root = os.path.realpath(self.scenes)
        path = os.path.realpath(os.path.join(root, scene))
        if not path.startswith(root + os.sep):
            raise RefusedError("scene {!r} lies outside of the folder of scenes".format(scene[:80]))
        if not os.path.isfile(path):
            raise RefusedError("no scene {!r} under --scenes {}".format(scene[:80], self.scenes))
        return path


class HabitatWorld(World):
    """One habitat-sim simulator. The agent is a pair of cameras; its body is the navmesh's."""

    def __init__(self, sim: Any, file: str, settings: Settings, gpu: int, navmesh: str) -> None:
        self.hs, self.settings = sim, settings
        config = sim.SimulatorConfiguration()
        if hasattr(config, "scene_id"):
            config.scene_id = file
        else:
            config.scene.id = file
        config.gpu_device_id = gpu
        config.enable_physics = False
        agent = sim.agent.AgentConfiguration()
        agent.radius, agent.height = settings["agent_radius"], settings["agent_height"]
        agent.sensor_specifications = [self._sensor(name) for name in settings["sensors"]]
        self.simulator = sim.Simulator(sim.Configuration(config, [agent]))
        self.finder = self.simulator.pathfinder
        if navmesh == "recompute":
            self._recompute()
        if not self.finder.is_loaded:
            raise RefusedError("scene {}: habitat-sim found and made no navmesh".format(file))
        self._check_navmesh(navmesh)
        self._seen: Tuple[Any, Dict[str, Any]] = (None, {})

    def _sensor(self, name: str) -> Any:
        kind = "camera" if name == "rgb" else "depth"
        make = getattr(self.hs, "CameraSensorSpec", None) or self.hs.SensorSpec
        spec = make()
        spec.uuid = name
        spec.sensor_type = self.hs.SensorType.COLOR if name == "rgb" else self.hs.SensorType.DEPTH
        spec.resolution = [self.settings[kind + "_height"], self.settings[kind + "_width"]]
        spec.position = [0.0, 0.0, 0.0]  # the agent is put where the eye is
        if hasattr(spec, "hfov"):
            spec.hfov = self.settings[kind + "_hfov"]
        else:
            spec.parameters["hfov"] = str(self.settings[kind + "_hfov"])
        return spec

    def _recompute(self) -> None:
        wanted = self.hs.NavMeshSettings()
        wanted.set_defaults()
        wanted.agent_radius = self.settings["agent_radius"]
        wanted.agent_height = self.settings["agent_height"]
        self.simulator.recompute_navmesh(self.finder, wanted)

    def _check_navmesh(self, navmesh: str) -> None:
        """Refuse a navmesh made for another body, where the release of habitat-sim can tell."""
        made = getattr(self.finder, "nav_mesh_settings", None)
        if made is None or navmesh == "file":
            return
        for part in ("agent_radius", "agent_height"):
            have, want = getattr(made, part), self.settings[part]
            if abs(have - want) > 1e-3:
                raise RefusedError(
                    "the navmesh was made for {} {:.3f} m, asked was {:.3f} m; start the server "
                    "with --navmesh recompute (or --navmesh file to take it as it is)".format(
                        part, have, want
                    ),
                    "protocol",
                    409,
                )

    @staticmethod
    def _point(point: Any) -> Any:
        return np.array(point, dtype=np.float32)

    def snap(self, points: Any) -> Any:
        """As `World.snap`; a start on the mesh keeps its place, as in VLN-CE's evaluation."""
        out = np.array(points, dtype=np.float64)
        for i in np.flatnonzero(~self.navigable(points)):
            place = np.array(self.finder.snap_point(self._point(points[i])), dtype=np.float64)
            # Where nothing is near the point stays, and no way will lead to it.
            out[i] = place if np.isfinite(place).all() else out[i]
        return out

    def navigable(self, points: Any) -> Any:
        """As `World.navigable`."""
        return np.array([bool(self.finder.is_navigable(self._point(p))) for p in points], bool)

    def move(self, points: Any, yaws: Any, distance: float, sliding: bool) -> Tuple[Any, Any]:
        """As habitat-sim's move_forward: a straight step, filtered by the navmesh."""
        step = self.finder.try_step if sliding else self.finder.try_step_no_sliding
        ends, met = [], []
        for point, yaw in zip(points, yaws):
            start = self._point(point)
            wanted = start + self._point(_forward(yaw) * distance)
            end = np.array(step(start, wanted), dtype=np.float32)
            length, went = np.linalg.norm(wanted - start), np.linalg.norm(end - start)
            ends.append(end.astype(np.float64))
            met.append(bool(went + 1e-5 < length))
        return np.array(ends).reshape(-1, 3), np.array(met, bool)

    def _way(self, start: Any, goal: Any) -> Any:
        way = self.hs.ShortestPath()
        way.requested_start, way.requested_end = self._point(start), self._point(goal)
        self.finder.find_path(way)
        return way

    def distances(self, points: Any, goal: Any) -> Any:
        """As `World.distances`."""
        return np.array([float(self._way(p, goal).geodesic_distance) for p in points])

    def path(self, start: Any, goal: Any) -> Any:
        """As `World.path`."""
        way = self._way(start, goal)
        if not np.isfinite(way.geodesic_distance):
            return np.empty((0, 3))
        return np.array([np.array(p, dtype=np.float64) for p in way.points]).reshape(-1, 3)

    def topdown(self, height: float, metres_per_pixel: float) -> Tuple[Any, float, float]:
        """As `World.topdown`."""
        area = np.array(self.finder.get_topdown_view(metres_per_pixel, height), bool)
        low = np.array(self.finder.get_bounds()[0], dtype=np.float64)
        return area, float(low[0]), float(low[2])

    def look(self, eyes: Any, yaws: Any, sensor: str) -> Any:
        """As `World.look`; one drawing of a pose serves both sensors."""
        return np.array([self._frame(eye, float(yaw), sensor) for eye, yaw in zip(eyes, yaws)])

    def _frame(self, eye: Any, yaw: float, sensor: str) -> Any:
        key = (tuple(np.asarray(eye).tolist()), yaw)
        if self._seen[0] != key:
            state = self.hs.AgentState()
            state.position = self._point(eye)
            state.rotation = [0.0, math.sin(yaw / 2), 0.0, math.cos(yaw / 2)]
            self.simulator.get_agent(0).set_state(state)
            self._seen = (key, dict(self.simulator.get_sensor_observations()))
        frame = np.asarray(self._seen[1][sensor])
        return frame[..., :3] if sensor == "rgb" else frame.astype(np.float32)

    def close(self) -> None:
        """Close the simulator."""
        self.simulator.close()


class PlaneBackend(Backend):
    """A level floor without end and a grey picture: to try a connection without any simulator."""

    name = "plane"

    def open(self, scene: str, settings: Settings) -> World:
        """Open the plane under any name."""
        return PlaneWorld(settings)


class PlaneWorld(World):
    """Every point is walkable, distances are straight lines, depth grows towards the horizon."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def snap(self, points: Any) -> Any:
        """As they are."""
        return points

    def navigable(self, points: Any) -> Any:
        """All."""
        return np.ones(len(points), bool)

    def move(self, points: Any, yaws: Any, distance: float, sliding: bool) -> Tuple[Any, Any]:
        """Straight on."""
        ends = points + np.array([_forward(yaw) for yaw in yaws]).reshape(-1, 3) * distance
        return ends, np.zeros(len(points), bool)

    def distances(self, points: Any, goal: Any) -> Any:
        """Straight metres."""
        return np.linalg.norm(points - goal, axis=1)

    def path(self, start: Any, goal: Any) -> Any:
        """Both ends."""
        return np.array([start, goal])

    def topdown(self, height: float, metres_per_pixel: float) -> Tuple[Any, float, float]:
        """Twenty metres around the origin."""
        side = math.ceil(40 / metres_per_pixel)
        return np.ones((side, side), bool), -20.0, -20.0

    def look(self, eyes: Any, yaws: Any, sensor: str) -> Any:
        """Sky and floor, as bright as their depth."""
        kind = "camera" if sensor == "rgb" else "depth"
        width, height = self.settings[kind + "_width"], self.settings[kind + "_height"]
        reach = math.tan(math.radians(self.settings[kind + "_hfov"]) / 2) / width
        down = (np.arange(height) * 2 + 1 - height) * reach
        with np.errstate(divide="ignore"):
            far = np.where(down > 0, 1.0 / np.maximum(down, 1e-9), np.inf)
        rows = np.maximum(np.asarray(eyes)[:, 1:2], 1e-3) * far[None]
        depth = np.repeat(rows[:, :, None], width, axis=2).astype(np.float32)
        if sensor == "depth":
            return depth
        grey = (255 / (1 + np.minimum(depth, 1e3))).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=3)


def _forward(yaw: float) -> Any:
    """Return the direction of a yaw about +y, at rest -z."""
    return np.array([-math.sin(yaw), 0.0, -math.cos(yaw)])


# ---- questions and answers ------------------------------------------------------------------


def check_settings(given: Any) -> Settings:
    """Return settings with all fields in their types; `RefusedError` names a wrong one."""
    if not isinstance(given, dict):
        raise RefusedError("settings: expected an object")
    out: Settings = {}
    for name, (kind, least, most) in _SETTINGS.items():
        value: Any = given.get(name)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not least <= value <= most or kind(value) != value:
            raise RefusedError(
                "settings: {} must be a number from {} to {}".format(name, least, most)
            )
        out[name] = kind(value)
    sensors = given.get("sensors")
    if not isinstance(sensors, list) or any(name not in SENSORS for name in sensors):
        raise RefusedError("settings: sensors must be a list of {}".format(" and ".join(SENSORS)))
    out["sensors"] = sorted(set(sensors))
    unknown = sorted(set(given) - set(out))
    if unknown:
        raise RefusedError("settings: unknown {}".format(unknown[:5]))
    return out


def settings_id(settings: Settings) -> str:
    """Return the name under which settings are asked for."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


class Answers:
    """Answers questions, one list of them at a time; holds the open scenes."""

    def __init__(self, backend: Backend, fixed: Optional[Settings] = None) -> None:
        """Serve `backend`; `fixed` settings refuse all others."""
        self.backend, self.fixed = backend, fixed
        self.known: "OrderedDict[str, Settings]" = OrderedDict()
        self.worlds: "OrderedDict[Tuple[str, str], World]" = OrderedDict()
        if fixed is not None:
            self.known[settings_id(fixed)] = fixed

    def about(self) -> Dict[str, Any]:
        """What serves here."""
        return {
            "service": SERVICE,
            "wire": WIRE,
            "backend": self.backend.name,
            "versions": self.backend.versions(),
            "settings": self.fixed,
            "codings": ["raw", "png"] + (["jpeg"] if _jpeg() else []),
        }

    def settle(self, body: Dict[str, Any]) -> Dict[str, Any]:
        """Take settings; the answer holds their name for later questions."""
        wanted = check_settings(body.get("settings"))
        if self.fixed is not None:
            _check_same(self.fixed, wanted)
            wanted = self.fixed
        name = settings_id(wanted)
        self.known[name] = wanted
        while len(self.known) > MAX_SETTINGS:
            self.known.popitem(last=False)
        return {"settings_id": name}

    def ask(self, body: Dict[str, Any]) -> bytes:
        """Answer a list of questions about one scene."""
        settings = self.known.get(str(body.get("settings")))
        if settings is None:
            raise RefusedError("these settings are not known here", "settings", 409)
        questions = body.get("ask")
        if not isinstance(questions, list) or not 0 < len(questions) <= MAX_QUESTIONS:
            raise RefusedError("ask: expected a list of 1 to {} questions".format(MAX_QUESTIONS))
        world = self._world(_scene(body.get("scene")), settings)
        answer = _Answer(world, settings)
        for question in questions:
            answer.take(question)
        return answer.packed()

    def _world(self, scene: str, settings: Settings) -> World:
        key = (scene, settings_id(settings))
        if key not in self.worlds:
            while len(self.worlds) >= self.backend.keep:
                self.worlds.popitem(last=False)[1].close()
            self.worlds[key] = self.backend.open(scene, settings)
        self.worlds.move_to_end(key)
        return self.worlds[key]


def _check_same(have: Settings, want: Settings) -> None:
    for name in _SETTINGS:
        if have[name] != want[name]:
            raise RefusedError(
                "this server simulates {} {}, the protocol asks for {}; start it with that "
                "protocol, or without one".format(name, have[name], want[name]),
                "protocol",
                409,
            )
    missing = sorted(set(want["sensors"]) - set(have["sensors"]))
    if missing:
        raise RefusedError("this server has no {} camera".format(missing[0]), "protocol", 409)


def _scene(value: Any) -> str:
    parts = value.split("/") if isinstance(value, str) else [".."]
    if (
        len(str(value)) > 300
        or ".." in parts
        or not re.match(r"[A-Za-z0-9_][\w./ -]*$", str(value))
    ):
        raise RefusedError("scene: expected a path such as mp3d/<scan>/<scan>.glb")
    return str(value)


class _Answer:
    """The answers to one request, and the arrays that go with them."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world, self.settings = world, settings
        self.answers: List[Dict[str, Any]] = []
        self.blobs: List[bytes] = []
        self.size = 0

    def take(self, question: Any) -> None:
        """Answer one more question; it may use the points of an earlier answer."""
        kinds = {
            "snap": self._snap,
            "navigable": self._navigable,
            "move": self._move,
            "distances": self._distances,
            "path": self._path,
            "topdown": self._topdown,
            "look": self._look,
        }  # type: Dict[str, Callable[[Dict[str, Any]], Dict[str, Any]]]
        kind = question.get("q") if isinstance(question, dict) else None
        if kind not in kinds:
            raise RefusedError("ask: a question is one of {}".format(", ".join(sorted(kinds))))
        self.answers.append(kinds[str(kind)](question))

    def packed(self) -> bytes:
        """The header and the arrays as bytes."""
        header = json.dumps({"answers": self.answers}, allow_nan=False).encode("utf-8")
        return b"".join([struct.pack("<I", len(header)), header, *self.blobs])

    def _points(self, question: Dict[str, Any], name: str = "points") -> Any:
        value = question.get(name)
        if isinstance(value, dict):
            index = value.get("of")
            if type(index) is not int or not 0 <= index < len(self.answers):
                raise RefusedError("{}: of must be the number of an earlier answer".format(name))
            value = self.answers[index].get("points")
        return _numbers(value, name, (None, 3))

    def _snap(self, question: Dict[str, Any]) -> Dict[str, Any]:
        return {"points": np.asarray(self.world.snap(self._points(question))).tolist()}

    def _navigable(self, question: Dict[str, Any]) -> Dict[str, Any]:
        return {"navigable": np.asarray(self.world.navigable(self._points(question))).tolist()}

    def _move(self, question: Dict[str, Any]) -> Dict[str, Any]:
        points = self._points(question)
        yaws = _numbers(question.get("yaws"), "yaws", (len(points),))
        distance = float(_numbers(question.get("distance"), "distance", ()))
        if not 0 < distance <= 10 or not isinstance(question.get("sliding"), bool):
            raise RefusedError(
                "move: expected distance above 0 and up to 10 m, and sliding true/false"
            )
        ends, met = self.world.move(points, yaws, distance, question["sliding"])
        return {"points": np.asarray(ends).tolist(), "collided": np.asarray(met).tolist()}

    def _distances(self, question: Dict[str, Any]) -> Dict[str, Any]:
        points = self._points(question)
        goal = _numbers(question.get("goal"), "goal", (3,))
        metres = np.asarray(self.world.distances(points, goal), np.float64).tolist()
        return {"metres": [m if math.isfinite(m) else None for m in metres]}

    def _path(self, question: Dict[str, Any]) -> Dict[str, Any]:
        ends = [_numbers(question.get(name), name, (3,)) for name in ("a", "b")]
        return {"points": np.asarray(self.world.path(ends[0], ends[1])).tolist()}

    def _topdown(self, question: Dict[str, Any]) -> Dict[str, Any]:
        height = float(_numbers(question.get("height"), "height", ()))
        scale = float(_numbers(question.get("metres_per_pixel"), "metres_per_pixel", ()))
        if not 0.01 <= scale <= 10:
            raise RefusedError("topdown: metres_per_pixel must be 0.01 to 10")
        area, x, z = self.world.topdown(height, scale)
        return {"area": self._array(np.asarray(area).astype(np.uint8), "raw"), "x": x, "z": z}

    def _look(self, question: Dict[str, Any]) -> Dict[str, Any]:
        sensor, coding = question.get("sensor"), question.get("coding", "raw")
        if sensor not in self.settings["sensors"]:
            raise RefusedError("look: these settings have no sensor {!r}".format(str(sensor)[:20]))
        points = self._points(question)
        yaws = _numbers(question.get("yaws"), "yaws", (len(points),))
        eyes = points + np.array([0.0, float(_numbers(question.get("rise", 0), "rise", ())), 0.0])
        kind = "camera" if sensor == "rgb" else "depth"
        pixels = self.settings[kind + "_width"] * self.settings[kind + "_height"]
        if len(points) * pixels * 4 > MAX_ANSWER:
            raise RefusedError("look: so many frames are over {} MB".format(MAX_ANSWER >> 20))
        frames = np.ascontiguousarray(self.world.look(eyes, yaws, str(sensor)))
        if coding == "raw" or sensor == "depth":
            return {"frames": self._array(frames, "raw")}
        return {"each": [self._array(frame, coding) for frame in frames]}

    def _array(self, array: Any, coding: Any) -> Dict[str, Any]:
        blob = _encoded(array, coding)
        told = {
            "at": self.size,
            "bytes": len(blob),
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "coding": coding,
        }
        self.blobs.append(blob)
        self.size += len(blob)
        if self.size > MAX_ANSWER:
            raise RefusedError("the answer is over {} MB; ask for less".format(MAX_ANSWER >> 20))
        return told


def _numbers(value: Any, name: str, shape: Tuple[Optional[int], ...]) -> Any:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape)
    )
    if not fits or array.size > 3 * MAX_POINTS or not np.isfinite(array).all():
        wanted = "[{}]".format(", ".join("n" if n is None else str(n) for n in shape))
        raise RefusedError(
            "{}: expected finite numbers {}".format(name, wanted if shape else "(one)")
        )
    return array


def _encoded(array: Any, coding: Any) -> bytes:
    if coding == "raw":
        return bytes(array.tobytes())
    if coding == "png":
        return _png(array)
    image = _jpeg()
    if coding != "jpeg" or image is None:
        raise RefusedError("coding: expected raw, png or (with Pillow installed here) jpeg")
    out = io.BytesIO()
    image.fromarray(array).save(out, "JPEG", quality=90)
    return out.getvalue()


def _jpeg() -> Any:
    """Return Pillow's Image, or None where it is not installed."""
    try:
        from PIL import Image
    except ImportError:
        return None
    return Image


def _png(array: Any) -> bytes:
    """Return uint8 [h, w, 3] as PNG, quickly and without loss."""
    height, width = array.shape[:2]
    rows = np.zeros((height, width * 3 + 1), np.uint8)
    rows[:, 0] = 2  # filter "up": rows look like the ones above them
    flat = array.reshape(height, -1)
    rows[0, 1:], rows[1:, 1:] = flat[0], flat[1:] - flat[:-1]
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 1)),
        (b"IEND", b""),
    )
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# ---- HTTP -----------------------------------------------------------------------------------


class Desk:
    """Jobs of all connections, done one after the other in the thread that calls `run`."""

    def __init__(self) -> None:
        self._jobs: "queue.Queue[Tuple[Callable[[], Any], List[Any], threading.Event]]" = (
            queue.Queue(MAX_CONNECTIONS)
        )
        self.ended = threading.Event()

    def do(self, job: Callable[[], Any]) -> Any:
        """Have a job done; returns its result or raises its error."""
        box: List[Any] = []
        done = threading.Event()
        self._jobs.put((job, box, done))
        while not done.wait(1.0):
            if self.ended.is_set():
                raise RefusedError("the server is ending", "ending", 503)
        if isinstance(box[0], BaseException):
            raise box[0]
        return box[0]

    def run(self) -> None:
        """Do jobs until `ended` is set."""
        while not self.ended.is_set():
            try:
                job, box, done = self._jobs.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                box.append(job())
            except Exception as error:
                box.append(error)
            done.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = SERVICE, ""
    disable_nagle_algorithm = True
    timeout = READ_SECONDS
    wbufsize = 1 << 16
    server: "Server"

    def handle_one_request(self) -> None:
        """Wait long for a request to begin, briefly for the rest of it."""
        self.connection.settimeout(IDLE_SECONDS)
        if self.rfile.peek(1):  # type: ignore[attr-defined]
            self.connection.settimeout(READ_SECONDS)
            super().handle_one_request()
        else:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a step is a request."""

    def do_GET(self) -> None:
        """GET /about."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """POST /settings, /ask."""
        self._answer(self._post)

    def _get(self) -> bytes:
        self._check_caller()
        if self.path != "/about":
            raise RefusedError(
                "no such address; there are /about, /settings and /ask", "address", 404
            )
        return json.dumps(self.server.answers.about()).encode("utf-8")

    def _post(self) -> bytes:
        body = self._body()
        self._check_caller()
        answers = self.server.answers
        if self.path == "/settings":
            settled = self.server.desk.do(lambda: answers.settle(body))
            return json.dumps(settled).encode("utf-8")
        if self.path == "/ask":
            return bytes(self.server.desk.do(lambda: answers.ask(body)))
        raise RefusedError("no such address; there are /about, /settings and /ask", "address", 404)

    def _check_caller(self) -> None:
        if self.headers.get("Origin") is not None:
            raise RefusedError("browsers are not served", "token", 403)
        if self.server.token is None:
            return
        given = (self.headers.get("Authorization") or "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, ("Bearer " + self.server.token).encode("utf-8")):
            raise RefusedError("a token is needed, and this is not it", "token", 401)

    def _body(self) -> Dict[str, Any]:
        length = self.headers.get("Content-Length") or ""
        if not length.isdigit():
            self.close_connection = True
            raise RefusedError("Content-Length is missing", "input", 411)
        if int(length) > MAX_BODY:
            self.close_connection = True
            raise RefusedError("the question is over {} bytes".format(MAX_BODY), "size", 413)
        raw = self.rfile.read(int(length))
        try:
            body = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise RefusedError("the question is not JSON") from None
        if not isinstance(body, dict) or body.get("wire") != WIRE:
            found = body.get("wire") if isinstance(body, dict) else None
            raise RefusedError(
                "this server speaks version {}, the question is of version {}".format(
                    WIRE, str(found)[:20]
                ),
                "version",
            )
        return body

    def _answer(self, work: Callable[[], bytes]) -> None:
        try:
            status, content = 200, work()
        except RefusedError as error:
            status = error.status
            content = json.dumps({"error": str(error), "kind": error.kind}).encode("utf-8")
        except (socket.timeout, ConnectionError):
            self.close_connection = True
            return
        except Exception as error:
            traceback.print_exc()
            status, told = 500, "{}: {}".format(type(error).__name__, error)[:300]
            content = json.dumps({"error": told, "kind": "fault"}).encode("utf-8")
        kind = "application/octet-stream" if status == 200 else "application/json"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


class Server(socketserver.ThreadingMixIn, HTTPServer):
    """The HTTP server: threads read and write, `desk` answers."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: Tuple[str, int], answers: Answers, token: Optional[str]) -> None:
        self.answers, self.token, self.desk = answers, token, Desk()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        HTTPServer.__init__(self, address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, or close it where there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection until it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, socket.timeout)):
            traceback.print_exc()


def check_address(host: str, port: int, token: Optional[str]) -> None:
    """Raise `RefusedError` for an address that others can reach without a token."""
    if not 0 <= port < 2**16:
        raise RefusedError("--port: expected 0 to 65535, found {}".format(port))
    if host not in ("127.0.0.1", "localhost") and not token:
        raise RefusedError(
            "--host {}: others can reach this address; set STERNA_TOKEN to a secret and give the "
            "same to the client".format(host)
        )


def serve(
    answers: Answers,
    host: str,
    port: int,
    token: Optional[str],
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called with the address."""
    check_address(host, port, token)
    server = Server((host, port), answers, token)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.desk.ended.set())
    listener = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    listener.daemon = True
    listener.start()
    ready("http://{}:{}".format(host, server.server_port))
    try:
        server.desk.run()
    finally:
        server.shutdown()
        server.server_close()
        for world in answers.worlds.values():
            world.close()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the server from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backend", choices=("habitat", "plane"), default="habitat")
    parser.add_argument("--scenes", help="folder that holds mp3d/<scan>/<scan>.glb")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--gpu", type=int, default=0, help="graphics card that draws")
    parser.add_argument("--keep", type=int, default=1, help="scenes that stay open")
    parser.add_argument(
        "--navmesh",
        choices=("auto", "recompute", "file"),
        default="auto",
        help="auto: habitat-sim's own way; recompute: make it for the body asked for; "
        "file: the scene's, whatever body it was made for",
    )
    parser.add_argument("--settings", help="JSON file of the only settings to serve")
    args = parser.parse_args(argv)
    fixed = None
    token = os.environ.get("STERNA_TOKEN") or None
    try:
        if args.settings:
            with io.open(args.settings, encoding="utf-8") as file:
                fixed = check_settings(json.load(file))
        if args.backend == "plane":
            backend = PlaneBackend()  # type: Backend
        elif not args.scenes or not os.path.isdir(args.scenes):
            raise RefusedError("--scenes: expected the folder that holds mp3d/<scan>/<scan>.glb")
        else:
            backend = HabitatBackend(args.scenes, args.gpu, max(1, args.keep), args.navmesh)

        def ready(url: str) -> None:
            print("serving {} on {}; Ctrl-C ends it".format(backend.name, url), flush=True)

        serve(Answers(backend, fixed), args.host, args.port, token, ready)
    except (RefusedError, OSError, ValueError) as error:
        sys.stderr.write("habitat server: {}\n".format(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
