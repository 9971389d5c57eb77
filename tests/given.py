"""What pages are given before a block is typed: toy worlds, tiny runs, stand-ins for services.

A function takes the reader and the words that stand behind its name in `<!-- given: ... -->`; it
leaves things in the reader's folder, or names for its Python. What takes a while is made once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli_tools import TINY_RUN
from sterna.cli import main

if TYPE_CHECKING:
    from pages import Reader

CAPTIONS = ("a hall with a lamp", "a door", "a red chair by a window", "a wall")


def _sterna(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


def _kept(reader: Reader, name: str, make: Callable[[Path], object], *places: str) -> None:
    """Put what `make` makes, once for all pages, at each place."""
    kept = reader.store / name
    if not kept.exists():
        make(kept)
    for place in places:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(kept, place, dirs_exist_ok=True)


def toy_world(reader: Reader, *places: str) -> None:
    """Toy houses with R2R's files."""
    from sterna.recipes.toyworld import write_toy_world

    _kept(reader, "world", lambda out: write_toy_world(out, seed=0), *places)


def toy_tasks(reader: Reader, place: str) -> None:
    """Toy houses with RxR, SOON and NDH beside R2R."""
    from toy_tasks import write_toy_tasks

    def make(out: Path) -> None:
        toy_world(reader)
        write_toy_tasks(reader.store / "world", out, paths=6)

    _kept(reader, "tasks", make, place)


def toy_reverie(reader: Reader, place: str) -> None:
    """Toy houses with REVERIE beside R2R, and a split of R2R without answers."""
    from sterna.files import read_json, write_json
    from sterna.recipes.toyreverie import write_toy_reverie

    def make(out: Path) -> None:
        write_toy_reverie(out, train_scans=2, unseen_scans=1, paths=6)
        rows = read_json(out / "r2r" / "R2R_val_unseen.json")
        asked = [row | {"path": row["path"][:1]} for row in rows]
        write_json(out / "r2r" / "R2R_test.json", asked)

    _kept(reader, "reverie", make, place)


def toy_captions(reader: Reader, place: str) -> None:
    """Captions of every viewpoint of the toy houses, as NavGPT's."""
    from sterna.files import read_json, write_json

    for file in sorted((Path(place) / "connectivity").glob("*_connectivity.json")):
        scan, texts = file.name.removesuffix("_connectivity.json"), {}
        for number, entry in enumerate(read_json(file)):
            texts[entry["image_id"]] = [CAPTIONS[(number + view) % 4] for view in range(8)]
        things = {name: [{}, {}, {"lamp_1": {}}, *[{}] * 5] for name in texts}
        write_json(Path(place) / "textobs/observations_list_summarized" / f"{scan}.json", texts)
        write_json(Path(place) / "textobs/objects_list" / f"{scan}.json", things)


def toy_run(reader: Reader, *places: str) -> None:
    """A training run of four iterations in the toy houses."""

    def make(out: Path) -> None:
        toy_world(reader)
        data = reader.store / "world"
        _sterna("train", "toy-teacher", "--data", data, "--out", out, *TINY_RUN)

    _kept(reader, "run", make, *places)


def toy_scores(reader: Reader, run: str) -> None:
    """Its scores on six episodes."""
    toy_world(reader)
    out = Path(run) / "eval"
    _sterna("eval", run, "--data", reader.store / "world", "--episodes", 6, "--out", out)


def deep_run(reader: Reader, *places: str) -> None:
    """A policy with layers to spare, untrained."""
    from sterna.models.pretrained import save_pretrained
    from sterna.recipes.actdistill import deep_toy_teacher
    from sterna.recipes.start import begin
    from sterna.recipes.world import World

    def make(out: Path) -> None:
        toy_world(reader)
        recipe = deep_toy_teacher()
        sizes = {"hidden_size": 16, "heads": 2, "ffn_size": 16, "language_layers": 2}
        model = begin(
            replace(recipe.model, **sizes, cross_layers=2),
            replace(recipe.start, still=False),
            0,
            World(reader.store / "world", recipe.data),
        )
        save_pretrained(model.eval(), out / "best")

    _kept(reader, "deep", make, *places)


def routed_run(reader: Reader, place: str) -> None:
    """A calibrated student of ActDistill, and the policy that taught it beside it."""
    small = ("--iterations", 3, "--episodes", 6, "--held-out", 3, "--graph.width", 8)
    small += ("--graph.size", 6, "--router.width", 8, "--loop.batch-size", 4)
    small += ("--probe.batch-size", 4, "--data", reader.store / "world")

    def make(out: Path) -> None:
        deep_run(reader, reader.store / "deep-teacher")
        words = ("toy-duet", "--teacher", reader.store / "deep-teacher", *small)
        _sterna("actdistill", "probe", *words, "--out", reader.store / "probe")
        probed = ("--probed", reader.store / "probe")
        _sterna("actdistill", "distill", *words, *probed, "--out", out)
        _sterna("actdistill", "calibrate", out)

    _kept(reader, "routed", make, place)
    deep_run(reader, str(Path(place).parent / "teacher"))


def toy_robot(reader: Reader, data: str, policy: str) -> None:
    """`robot`, which stands in a toy house, and what it sees there in `observation.json`."""
    import numpy as np

    from sterna.edge.messages import write_observation
    from sterna.edge.runtime import Engine
    from sterna.edge.walks import start_heading
    from sterna.recipes.policies import data_config
    from sterna.recipes.rooms import rooms_of
    from sterna.recipes.world import World

    world = World(Path(data), data_config(Engine.open(policy).manifest.about["run"]))
    episode = world.episodes("val_unseen")[0]
    rooms = rooms_of(world, world.panoramas([episode]))

    class Robot:
        place, heading = episode.start, start_heading(episode)

        async def look(self) -> Any:
            return await self.glimpse(self.place)

        async def glimpse(self, place: str) -> Any:
            heading = self.heading if place == self.place else None
            return rooms.observation(rooms.atlas.node(episode.scan, place), heading)

        async def go(self, path: Sequence[str]) -> None:
            if path:
                self.place, self.heading = path[-1], None

    reader.names["robot"] = Robot()
    seen = rooms.observation(rooms.atlas.node(episode.scan, episode.start), start_heading(episode))
    Path("observation.json").write_text(
        json.dumps(write_observation(seen), default=np.ndarray.tolist)
    )


def toy_actor(reader: Reader, place: str) -> None:
    """A routed policy of actions, exported; a picture and a pose of a hand."""
    import numpy as np
    import torch

    from sterna.actdistill.adapters.vla import VlaStack
    from sterna.actdistill.router import Router, RouterConfig
    from sterna.edge.routed_files import Routed
    from sterna.edge.routed_folder import export_actor
    from sterna.models.vla import Vla, VlaConfig

    sizes = {"image_size": 48, "depth": 3, "width": 32, "heads": 2, "ffn": 48, "chunk": 3}
    torch.manual_seed(0)
    stack = VlaStack(Vla(VlaConfig(words=("open", "the", "drawer"), **sizes)).eval())
    router = Router(stack, RouterConfig(width=16, keep=0.5))
    routed = Routed(stack=stack, router=router, thresholds={1.0: -1e9, 0.5: 0.0}, rho=0.5)
    shutil.rmtree(place, ignore_errors=True)
    export_actor(routed, Path(place))
    reader.names["camera"] = np.zeros((1, 48, 48, 3), np.uint8)
    reader.names["hand"] = np.zeros(4, np.float32)


def toy_navigator(reader: Reader, place: str) -> None:
    """A navigator that answers in words, untrained; what a camera sees (`camera`)."""
    import numpy as np

    from sterna.files import write_json
    from sterna.metrics import find_protocol
    from sterna.models.navigator.folder import save
    from toy_navigator import tiny

    save(tiny(tower="conv", side=64), Path(place))
    values = find_protocol("HOUSES").to_dict() | {"name": "short", "max_steps": 3}
    write_json(Path(place) / "protocol.json", values)
    reader.names["camera"] = np.zeros((64, 64, 3), np.uint8)


def toy_demos(reader: Reader, place: str) -> None:
    """Demonstrations of two tasks in pictures of 48 pixels."""
    from toy_demos import write_toy_demos

    write_toy_demos(Path(place), episodes=10)


def routed_vla(reader: Reader, teacher: str, demos: str, place: str) -> None:
    """A calibrated student of a small policy of actions."""
    small = ("--graph.width", 8, "--graph.size", 8, "--graph.heads", 2, "--graph.neighbours", 3)
    small += ("--probe.batch-size", 4, "--loop.batch-size", 4, "--iterations", 2, "--judged", 4)
    words = ("vla-s", "--teacher", teacher, "--demos", demos, *small)
    probe = str(reader.store / "probe-vla")
    _sterna("actdistill", "probe", *words, "--out", probe)
    _sterna("actdistill", "distill", *words, "--probed", probe, "--out", place)
    _sterna("actdistill", "calibrate", place, "--rhos", 0.5)


def house_walks(reader: Reader, *places: str) -> None:
    """A moment of seeing (`sight`), walks of the expert at each place, two episodes."""
    how = ("--task", "easy", "--walks", 2, "--protocol", "HOUSES")

    def make(out: Path) -> None:
        few = ("--sight.seeds", 0, 1, "--sight.held-out", 500000, 500001, "--sight.views", 8)
        _sterna("ego", "sight", *few, "--out", out / "sight")
        walks = ("--noise", 0.15, "--workers", 1, "--out", out / "walks")
        _sterna("ego", "make", "--seeds", "1000:1001", *how, *walks)
        episodes = out / "easy.json.gz"
        _sterna("ego", "episodes", "--seeds", "1000:1001", *how, "--out", episodes)

    _kept(reader, "house-walks", make)
    kept = reader.store / "house-walks"
    shutil.copytree(kept / "sight", "sight")
    shutil.copy(kept / "easy.json.gz", "easy.json.gz")
    for place in places:
        shutil.copytree(kept / "walks", place)


def pictures(reader: Reader, place: str, boxes: str) -> None:
    """Views of three viewpoints in two scans, and REVERIE's archive of boxes in them."""
    from toy_eyes import write_pictures
    from toy_reverie import archive

    write_pictures(Path(place), {"one": 2, "two": 1})
    thing = {"name": "lamp", "visible_pos": [14], "bbox2d": [[10, 10, 50, 50]]}
    names = {"one_00": "00", "one_01": "01", "two_00": "00"}
    members = {f"BBox/{n}.json": {viewpoint: {"4": thing}} for n, viewpoint in names.items()}
    Path(boxes).write_bytes(archive(members))


def folder(reader: Reader, place: str) -> None:
    """An empty one."""
    Path(place).mkdir(parents=True)


def eyes(reader: Reader, kind: str, place: str) -> None:
    """A tiny image encoder of a published kind."""
    from toy_eyes import write_encoder

    write_encoder(Path(place), kind)


def one_place(reader: Reader, place: str) -> None:
    """A house made from a seed, of which one viewpoint is known."""
    from sterna.files import write_json
    from sterna.recipes.housefiles import connectivity
    from sterna.world.houses import make_house
    from sterna.world.houses.ground import ground_of
    from sterna.world.houses.viewpoints import place_viewpoints

    house = make_house(3)
    entries = connectivity(place_viewpoints(house, ground_of(house)))
    for number, entry in enumerate(entries):
        entry["included"] = number == 0
    write_json(Path(place) / "connectivity" / "house-000003_connectivity.json", entries)


def toy_building(reader: Reader, place: str) -> None:
    """Six panoramas and their poses, of noise."""
    from recipes.test_building import building

    building(Path(place))


def episodes_in_space(reader: Reader, place: str) -> None:
    """VLN-CE's file of one episode in a house."""
    from sterna.data.vlnce import write_vlnce
    from sterna.envs.houses import make_env

    file = Path(place) / "vlnce/R2R_VLNCE_v1-3_preprocessed/val_unseen/val_unseen.json.gz"
    file.parent.mkdir(parents=True)
    write_vlnce(file, make_env([4], episodes=1).episodes)


def simulator(reader: Reader) -> None:
    """Houses behind HTTP, where Habitat would be."""
    from serving_sim import served
    from sterna.envs.house_backend import HouseAnswers, HouseBackend

    port = int(reader.here("8791"))
    reader.until_the_end.enter_context(served(HouseAnswers(HouseBackend()), port=port))


def habitat_script(reader: Reader, place: str) -> None:
    """The script that runs in Habitat's environment."""
    _sterna("habitat", "serve", "--write-script", place)


def gl(reader: Reader) -> None:
    """A library that draws for MuJoCo, or no test."""
    from sterna.envs.metaworld import choose_gl
    from sterna.errors import InputError

    try:
        choose_gl()
    except InputError as error:
        pytest.skip(f"pictures are not drawn: {error}")


def published(reader: Reader, kind: str, place: str) -> None:
    """A checkpoint as its authors publish it, of width 24."""
    import torch

    from published_weights import checkpoint, published, reduced

    words = {"embeddings.word_embeddings.weight": (30522, 24)}
    shapes = {
        name: next((wide for end, wide in words.items() if name.endswith(end)), shape)
        for name, shape in reduced(published(kind)).items()
    }
    torch.save(checkpoint(shapes, kind.rsplit(":", 1)[1]), place)


def published_vlm(reader: Reader, place: str) -> None:
    """A tiny vision-language model as its authors publish theirs."""
    from toy_navigator import write_published

    write_published("qwen2_5_vl", Path(place))


def hamt(reader: Reader, size: str, place: str) -> None:
    """Random weights of a HAMT in the sizes of one of our models, under HAMT's names."""
    from dataclasses import replace

    import torch

    from sterna.models.duet import DUET
    from sterna.models.presets import preset

    moved = {
        "lang_encoder.layer.": "bert.encoder.layer.",
        "local_encoder.encoder.x_layers.": "bert.encoder.x_layers.",
        "embeddings.": "bert.embeddings.",
        "img_embeddings.img_l": "bert.img_embeddings.img_l",
    }
    state = DUET(replace(preset(size), lang2visn=True)).state_dict()
    taken = {
        theirs + name.removeprefix(ours): weight.clone()
        for name, weight in state.items()
        for ours, theirs in moved.items()
        if name.startswith(ours)
    }
    torch.save(taken | {"bert.hist_embeddings.cls_token": torch.zeros(1, 1, 2)}, place)


def views(reader: Reader, data: str, size: str, name: str) -> None:
    """Random features of every viewpoint of a data folder."""
    import numpy as np

    from sterna.data.viewfile import camera_angles, write_views
    from sterna.files import read_json

    rng, rows = np.random.default_rng(0), {}
    for file in sorted((Path(data) / "connectivity").glob("*_connectivity.json")):
        scan = file.name.removesuffix("_connectivity.json")
        for entry in read_json(file):
            rows[f"{scan}_{entry['image_id']}"] = rng.normal(size=(36, int(size)))
    write_views(Path(data) / "features" / f"{name}.hdf5", rows, *camera_angles())


def hub(reader: Reader) -> None:
    """A Hub on this machine."""
    from fake_hub import serving

    reader.until_the_end.enter_context(serving(Path.cwd()))


def bench(reader: Reader, place: str) -> None:
    """What `sterna bench latency --json` says."""
    from sterna.files import write_json

    times = {"episode_ms": {"median": 46.94, "p95": 52.77}, "step_ms": {"median": 5.96}}
    row = {"model": "minivln", "engine": "onnx", "threads": 1, "peak_MB": 175.8, "file_MB": 84.1}
    write_json(
        Path(place), {"machine": {"cpu": "AMD", "cores": 2, "busy": False}, "rows": [row | times]}
    )


def real_data(reader: Reader, place: str) -> None:
    """The folder of real data, for commands that look for archives at hand."""
    assert reader.data is not None
    Path(place).symlink_to(reader.data)


_MAKERS: tuple[Callable[..., None], ...] = (
    *(toy_world, toy_tasks, toy_reverie, toy_captions, toy_building, toy_demos, toy_run),
    *(
        toy_scores,
        deep_run,
        routed_run,
        routed_vla,
        house_walks,
        toy_robot,
        toy_actor,
        toy_navigator,
        published,
        published_vlm,
        hamt,
        views,
        bench,
        hub,
        pictures,
        eyes,
        one_place,
    ),
    *(episodes_in_space, simulator, habitat_script, gl, folder, real_data),
)
GIVEN = {make.__name__: make for make in _MAKERS}
"""Everything that a page may be given, by name."""
