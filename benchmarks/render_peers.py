"""Time `HouseEnv` beside MiniWorld and MuJoCo: pictures with depth, side by side.

`HouseEnv` takes whole steps (collisions, geodesics, colour and depth). The others only draw, from
the same poses, the boxes of the same house in their usual way on the CPU: MiniWorld with its boxes
in a display list (by its own calls, and in one pass, which is faster); MuJoCo without shadows and
reflections. Each runs in a process of its own; rounds alternate between them, and
ratios are medians of ratios within a round. CPU seconds count all threads of a process, and are
what to read on a machine that is busy.

The peers are optional: pip install mujoco miniworld; apt-get install libegl1 libosmesa6.

Usage: python benchmarks/render_peers.py [--seed 0] [--size 224] [--frames 40] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

HFOV = 90
MINIWORLD = "miniworld", "pip install miniworld; apt-get install libegl1"
INSTALL = {
    "MiniWorld": MINIWORLD,
    "MiniWorld, one pass": MINIWORLD,
    "MuJoCo, EGL": ("mujoco", "pip install mujoco; apt-get install libegl1"),
    "MuJoCo, OSMesa": ("mujoco", "pip install mujoco; apt-get install libosmesa6"),
}
OURS = "HouseEnv"
WALKS, STEPS = 8, 5  # episodes begun in a round of 40 frames, frames of each
Pose = tuple[float, float, float, float]  # eye (metres), heading
Frame = tuple[np.ndarray, np.ndarray]  # colour, depth


def settings(seed: int, size: int, threads: int) -> dict[str, Any]:
    """Return a house's boxes and colours, for those who draw it in their own way."""
    from sterna.world.houses import make_house

    house = make_house(seed)
    colours = np.sqrt(house.materials[house.box_material, :3].clip(0, 1))
    return {
        "seed": seed, "size": size, "threads": threads, "boxes": house.boxes.astype(float),
        "colours": colours.astype(float),
    }  # fmt: skip


def house_env(scene: dict[str, Any], poses: list[Pose]) -> Iterator[Frame]:
    """Walk a few steps of some episodes, again and again; fills in the poses of the pictures."""
    from sterna.envs.houses import make_env
    from sterna.metrics.protocol import R2R_CE

    size = scene["size"]
    protocol = replace(
        R2R_CE, name="R2R_CE of one lens", camera_width=size, camera_height=size, depth_width=size,
        depth_height=size, camera_hfov=HFOV, depth_hfov=HFOV,
    )  # fmt: skip
    env = make_env([scene["seed"]], episodes=WALKS, protocol=protocol, threads=scene["threads"])
    guide = make_env([scene["seed"]], episodes=WALKS, protocol=protocol, sensors=("pose",))
    walks = [(episode.instr_id, way(guide, episode.instr_id)) for episode in guide.episodes[:WALKS]]
    while True:
        for name, actions in walks:
            for number in range(len(actions) + 1):
                if number == 0:
                    seen, _ = env.reset(options={"instr_id": name})
                else:
                    seen = env.step(actions[number - 1])[0]
                x, y, z = env.pose().position.tolist()
                poses.append((x, y, z + protocol.camera_elevation, env.pose().heading))
                yield seen["rgb"], seen["depth"]


def way(env: Any, name: str) -> list[int]:
    """Return the first actions of the shortest-path follower."""
    env.reset(options={"instr_id": name})
    actions = []
    for _ in range(STEPS - 1):
        actions.append(env.expert_action())
        env.step(actions[-1])
    return actions


def miniworld(scene: dict[str, Any], poses: list[Pose], passes: int = 2) -> Iterator[Frame]:
    """Draw the boxes with MiniWorld's own entities, kept in its display list.

    Its own calls for colour and depth draw the scene twice; in one pass depth is read from the
    buffer that colour was drawn into.
    """
    os.environ["PYOPENGL_PLATFORM"] = "egl"
    import pyglet

    pyglet.options["headless"] = True
    from miniworld import entity
    from miniworld import miniworld as world

    class Box(entity.Box):
        is_static = True

        def randomize(self, params: object, rng: object) -> None:
            self.color_vec = self.color

    class Scene(world.MiniWorldEnv):
        def _gen_world(self) -> None:
            boxes = scene["boxes"]  # y is up in MiniWorld
            (x0, y0, _), (x1, y1, z1) = boxes[:, :3].min(0), boxes[:, 3:].max(0)
            self.add_rect_room(
                min_x=x0, max_x=x1, min_z=-y1, max_z=-y0, wall_height=z1, no_ceiling=True
            )
            for (a, b, c, d, e, f), colour in zip(boxes, scene["colours"], strict=True):
                box = Box(colour, np.array([d - a, f - c, e - b]))
                box.pos, box.dir = np.array([(a + d) / 2, c, -(b + e) / 2]), 0.0
                self.entities.append(box)
            self.place_agent(pos=np.array([(x0 + x1) / 2, 0, -(y0 + y1) / 2]))

    env = Scene(
        obs_width=scene["size"], obs_height=scene["size"], window_width=64, window_height=64
    )
    env.agent.cam_fov_y, env.agent.cam_height, number = HFOV, 0.0, 0
    while True:
        x, y, z, heading = poses[number % len(poses)]
        env.agent.pos, env.agent.dir = np.array([x, z, -y]), math.pi / 2 - heading
        colour = env.render_obs()
        yield colour, env.render_depth() if passes == 2 else env.obs_fb.get_depth_map(0.04, 100.0)
        number += 1


def mujoco_scene(scene: dict[str, Any]) -> str:
    """Return the boxes as a model of MuJoCo's, without anything that moves."""
    geoms = []
    for box, colour in zip(scene["boxes"], scene["colours"], strict=True):
        middle, half = (box[:3] + box[3:]) / 2, np.maximum((box[3:] - box[:3]) / 2, 1e-4)
        at, size, rgb = (" ".join(f"{v:.5f}" for v in values) for values in (middle, half, colour))
        geoms.append(f'<geom type="box" pos="{at}" size="{size}" rgba="{rgb} 1" contype="0"/>')
    side = scene["size"]
    return f"""<mujoco><statistic extent="1"/><visual><map znear="0.04" zfar="100"/>
      <global offwidth="{side}" offheight="{side}"/></visual><worldbody>
      <light pos="0 0 9" castshadow="false"/><camera name="eye" fovy="{HFOV}"/>
      {"".join(geoms)}</worldbody></mujoco>"""


def mujoco(scene: dict[str, Any], poses: list[Pose], backend: str) -> Iterator[Frame]:
    """Draw the boxes with MuJoCo's own renderer."""
    os.environ["MUJOCO_GL"] = backend
    import mujoco

    model = mujoco.MjModel.from_xml_string(mujoco_scene(scene))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, scene["size"], scene["size"])
    number = 0
    while True:
        x, y, z, h = poses[number % len(poses)]
        sin, cos = math.sin(h), math.cos(h)
        data.cam_xpos[0] = x, y, z
        # Columns: right, up, and back, for a camera looks along its own -z.
        data.cam_xmat[0] = cos, 0, -sin, -sin, 0, -cos, 0, 1, 0
        renderer.update_scene(data, camera=0)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = 0
        colour = renderer.render()
        renderer.enable_depth_rendering()
        depth = renderer.render()
        renderer.disable_depth_rendering()
        yield colour, depth
        number += 1


MAKERS: dict[str, Callable[[dict[str, Any], list[Pose]], Iterator[Frame]]] = {
    OURS: house_env,
    "MiniWorld": miniworld,
    "MiniWorld, one pass": lambda scene, poses: miniworld(scene, poses, passes=1),
    "MuJoCo, EGL": lambda scene, poses: mujoco(scene, poses, "egl"),
    "MuJoCo, OSMesa": lambda scene, poses: mujoco(scene, poses, "osmesa"),
}


def serve(name: str, scene: dict[str, Any], poses: list[Pose], line: Connection) -> None:
    """Draw as many frames as are asked for; answer with wall and CPU seconds."""
    # No threads of Mesa's own beside the one that draws, unless more are asked for.
    os.environ["LP_NUM_THREADS"] = str(scene["threads"] if scene["threads"] > 1 else 0)
    try:
        source = MAKERS[name](scene, poses)
        frame = next(source)
        line.send([np.asarray(part) for part in frame])
        while count := line.recv():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(count):
                next(source)
            line.send((time.perf_counter() - wall, time.process_time() - cpu, poses[-count:]))
    except Exception as error:  # a library that does not run here is no reason to stop
        line.send(f"{type(error).__name__}: {error}".splitlines()[0])


class Worker:
    """One renderer in its own process; `fault` says in a line why it does not run."""

    def __init__(self, name: str, scene: dict[str, Any], poses: list[Pose]) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, other = context.Pipe()
        self.process = context.Process(target=serve, args=(name, scene, poses, other), daemon=True)
        self.process.start()
        other.close()
        self.frame, self.fault = None, ""
        try:
            answer = self.line.recv()
        except EOFError:
            answer = "its process died"
        if isinstance(answer, str):
            self.fault = answer
        else:
            self.frame = answer

    def draw(self, count: int) -> tuple[float, float, list[Pose]]:
        self.line.send(count)
        return self.line.recv()  # type: ignore[no-any-return]


def start(scene: dict[str, Any], wanted: list[str]) -> dict[str, Worker]:
    """Start ours, then, at the poses of its walk, those others that are installed."""
    workers = {OURS: Worker(OURS, scene, [])}
    if workers[OURS].fault:
        raise SystemExit(workers[OURS].fault)
    workers[OURS].draw(WALKS * STEPS - 1)
    *_, poses = workers[OURS].draw(WALKS * STEPS)  # from the first frame on
    for name in wanted:
        module, install = INSTALL[name]
        if find_spec(module) is None:
            print(f"{name}: not installed; {install}")
            continue
        worker = Worker(name, scene, poses)
        if worker.fault:
            print(f"{name}: {worker.fault}; {install}")
        else:
            workers[name] = worker
    return workers


def report(times: dict[str, list[tuple[float, float]]], frames: int) -> dict[str, dict[str, float]]:
    """Return frames per second and ratios to ours, each the median over rounds."""
    out = {}
    for name, rounds in times.items():
        row = {}
        for i, clock in enumerate(("second", "CPU second")):
            row[f"frames a {clock}"] = statistics.median(frames / t[i] for t in rounds)
            row[f"ours is faster, {clock}"] = statistics.median(
                t[i] / own[i] for t, own in zip(rounds, times[OURS], strict=True)
            )
        out[name] = row
    return out


def save(folder: str, workers: dict[str, Worker]) -> None:
    """Write the first frame of each, to look at."""
    from PIL import Image

    os.makedirs(folder, exist_ok=True)
    for name, worker in workers.items():
        colour, depth = worker.frame
        stem = os.path.join(folder, name.replace(", ", "-").replace(" ", "_"))
        Image.fromarray(colour).save(f"{stem}.png")
        shades = (255 * (depth.squeeze().clip(0, 8) / 8)).astype(np.uint8)
        Image.fromarray(shades).save(f"{stem}-depth.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=list(INSTALL), choices=list(INSTALL))
    parser.add_argument("--pictures", help="folder for one frame of each")
    parser.add_argument("--json", help="file for the figures")
    options = parser.parse_args()
    scene = settings(options.seed, options.size, options.threads)
    workers = start(scene, options.peers)
    if options.pictures:
        save(options.pictures, workers)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
    for _ in range(options.rounds):
        for name, worker in workers.items():
            times[name].append(worker.draw(options.frames)[:2])
    for worker in workers.values():
        worker.line.send(0)
        worker.process.join()
    rows = report(times, options.frames)
    print(
        f"{len(scene['boxes'])} boxes, {options.size} x {options.size} colour and depth, "
        f"{options.threads} thread(s), median of {options.rounds} rounds of {options.frames} frames"
    )
    columns = list(rows[OURS])
    print(f"{'':31}" + "".join(f"{name:>30}" for name in columns))
    for name, row in rows.items():
        print(f"{name:31}" + "".join(f"{row[column]:30.2f}" for column in columns))
    if options.json:
        with open(options.json, "w") as file:
            facts = {"boxes": len(scene["boxes"]), **vars(options)}
            json.dump({"settings": facts, "rows": rows, "rounds": times}, file, indent=1)


if __name__ == "__main__":
    main()
