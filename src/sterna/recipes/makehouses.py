"""Write houses as a data folder in the field's own files: in parallel, resumable, reproducible.

Every house first becomes a part, a folder of its own under ``.parts``; when all are there they are
joined. A part appears under its name only when it is whole, so a killed run goes on where it was.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sterna.data.boxes import read_boxes, write_boxes
from sterna.data.check import MADE
from sterna.data.objects import named_objects, write_objects
from sterna.data.reverie import write_reverie
from sterna.data.viewfile import camera_angles, write_views
from sterna.errors import InputError
from sterna.files import read_json, write_bytes, write_json, write_text
from sterna.models import encoder as encoder_files
from sterna.models.encoder import Encoder, load_encoder
from sterna.recipes.encoder import EncoderConfig, encode_house, train_encoder
from sterna.recipes.housefiles import (
    PER_HOUSE,
    Part,
    ThingWords,
    boxes_of,
    connectivity,
    r2r_episodes,
    reverie_episodes,
)
from sterna.recipes.jobs import Job, differences, job_pool
from sterna.recipes.viewsamples import draw_samples
from sterna.world.graph import read_graph
from sterna.world.houses import make_house, scan_of
from sterna.world.houses.ground import ground_of
from sterna.world.houses.language import HouseMap, make_episodes, make_errands
from sterna.world.houses.language.vocabulary import vocabulary
from sterna.world.houses.oracle import Oracle
from sterna.world.houses.viewpoints import place_viewpoints
from sterna.world.houses.words import word_vectors

FINISHED = MADE
"""What was asked for, and the digest of every house; written last."""
PARTS = ".parts"
VIEWS_FILE, FEATURES, OBJECTS, BOXES = "views.npy", "houses", "house_objects", "BBoxes.json"
SHIPPED, OURS, ORACLE = "shipped", "ours", "oracle"
ENCODER, BASE_RATES = "encoder", "base.npy"
ENCODER_HOUSES = 60  # training houses that the encoder looks at, at most
HELD_OUT = (950_000, 950_004)  # seeds of the houses it is scored on
VOCABULARY = 512  # words of a tokenizer: all of the grammar, and room for more
UNSEEN = 500_000  # seeds of unseen houses begin here: the same ones for any number of others
VLNCE = "vlnce/R2R_VLNCE_v1-3"
SPLITS = ("train", "val_seen", "val_unseen")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


VIEWS_OF = {"all": slice(None), "level": slice(12, 24)}
"""Which of the 36 views a feature file holds, by name."""
_COUNTS = ("paths", "seen_paths", "unseen_paths", "errands", "seen_errands", "unseen_errands")


@dataclass(frozen=True, kw_only=True)
class HousesConfig:
    """Which houses, and how much is asked in each."""

    train: int = 120
    """Training houses."""
    val_unseen: int = 20
    """Houses that no training sees."""
    seed: int = 0
    """Seed of the first training house; that of the first unseen one is 500,000 more."""
    paths: int = 60
    """Training paths a house, three instructions each."""
    seen_paths: int = 4
    """Further paths of each training house, for val_seen."""
    unseen_paths: int = 40
    """Paths of each unseen house."""
    errands: int = 24
    """REVERIE's kind: things to go and act on in each training house, three wordings each."""
    seen_errands: int = 4
    """Further errands of each training house, for val_seen."""
    unseen_errands: int = 24
    """Errands of each unseen house."""
    continuous: bool = True
    """Also write VLN-CE's files, with reference trajectories."""
    views: Literal["all", "level"] = "all"
    """Views of a panorama: all 36, or the 12 at the horizon (a third of the time, here and in
    training; steps and ceilings are seen less well)."""
    encoder: str = SHIPPED
    """What looks at the views: shipped (comes with the package, trained on 300 other houses by
    `sterna data encoder`), ours (the same network trained anew on these training houses, minutes),
    oracle (reads masks; an upper bound, not an agent), the folder of a trained one, or a model of
    transformers by name."""
    pictures: int = 500
    """Pictures of each of at most 60 training houses that our encoder learns from."""

    def __post_init__(self) -> None:
        for name in (*_COUNTS, "train", "val_unseen", "pictures"):
            if getattr(self, name) < 1:
                raise InputError(f"houses: {name} is at least 1, found {getattr(self, name)}")
        if self.views not in VIEWS_OF:
            raise InputError(f"houses: views must be all or level, found {self.views!r}")
        if sum(getattr(self, name) for name in _COUNTS) > PER_HOUSE:
            raise InputError(f"houses: at most {PER_HOUSE} paths and errands a house")
        if self.seed < 0 or self.train + self.val_unseen > UNSEEN:
            raise InputError(f"houses: seed from 0 up and at most {UNSEEN} houses, please")

    @property
    def train_seeds(self) -> range:
        """Seeds of the training houses."""
        return range(self.seed, self.seed + self.train)

    @property
    def unseen_seeds(self) -> range:
        """Seeds of the unseen houses."""
        first = self.seed + UNSEEN
        return range(first, first + self.val_unseen)


def make_houses(config: HousesConfig, out: Path, *, workers: int | None = None) -> Path:
    """Write a data folder of houses; return it. The same command continues a killed run.

    The same configuration gives the same bytes, whatever the number of `workers` (processes;
    default: one a core). `InputError` if `out` holds houses of another configuration.
    """
    wanted = json.loads(json.dumps(asdict(config)))
    if (out / FINISHED).is_file():
        found = read_json(out / FINISHED)
        _check_same(
            out / FINISHED, found.get("config") if isinstance(found, dict) else None, wanted
        )
        return out
    if config.encoder not in (SHIPPED, OURS, ORACLE) and not _is_ours(Path(config.encoder)):
        from sterna.models.vision import need_transformers

        need_transformers(
            config.encoder
        )  # refuses now what would be refused when all houses are made
    begun = out / PARTS / "config.json"
    if begun.is_file():
        _check_same(begun, read_json(begun), wanted)
    else:
        write_json(begun, wanted)
    seeds = [*config.train_seeds, *config.unseen_seeds]
    _make_parts(config, out / PARTS, seeds, workers or os.cpu_count() or 1)
    _join(config, out, seeds)
    shutil.rmtree(out / PARTS)
    return out


def _check_same(file: Path, found: Any, wanted: dict[str, Any]) -> None:
    if found == wanted:
        return
    raise InputError(
        f"{file}: these houses were made with other settings ({differences(found, wanted)}); give "
        "another --out, or the settings they were begun with"
    )


def _make_parts(config: HousesConfig, folder: Path, seeds: Sequence[int], workers: int) -> None:
    for left in folder.glob("*.tmp"):  # what a killed run was at
        shutil.rmtree(left)
    parts = [folder / scan_of(seed) for seed in seeds]
    todo = [seed for seed, part in zip(seeds, parts, strict=True) if not part.is_dir()]
    bare = [part for part in parts if not (part / VIEWS_FILE).is_file()]
    with job_pool(workers) as run:
        jobs: list[Job] = [(prepare_encoder, (config, folder.parent))]
        jobs += [(make_part, (config, folder, seed)) for seed in todo]
        run(jobs, "houses", len(seeds) + 1)
        run([(add_views, (config, folder.parent, part)) for part in bare], "views", len(seeds))


def prepare_encoder(config: HousesConfig, out: Path) -> None:
    """Train our view encoder on training houses, or count how often the oracle sees each concept.

    Nothing is done twice, and nothing for an encoder that is there already.
    """
    last = config.seed + min(config.train, ENCODER_HOUSES)
    settings = EncoderConfig(seeds=(config.seed, last), held_out=HELD_OUT, views=config.pictures)
    folder = out / ENCODER
    if config.encoder == OURS and not (folder / "config.json").is_file():
        train_encoder(settings, folder)
    if config.encoder == ORACLE and not (folder / BASE_RATES).is_file():
        sample = draw_samples(settings, settings.seeds, "pictures")
        _save(folder / BASE_RATES, sample.shown.mean(0, dtype=np.float64).astype(np.float32))


def open_encoder(config: HousesConfig, out: Path) -> Encoder | Oracle:
    """Return what looks at views; `InputError` for a name that is no encoder."""
    if config.encoder == ORACLE:
        return Oracle(np.load(out / ENCODER / BASE_RATES, allow_pickle=False))
    known = {SHIPPED: encoder_files.SHIPPED, OURS: out / ENCODER}
    named = known.get(config.encoder, Path(config.encoder))
    if _is_ours(named):
        return load_encoder(named)
    from sterna.models.pictures import TransformersEncoder

    return TransformersEncoder(config.encoder)


def _is_ours(folder: Path) -> bool:
    return (folder / "config.json").is_file() and not (
        folder / "preprocessor_config.json"
    ).is_file()


def add_views(config: HousesConfig, out: Path, part: Path) -> None:
    """Render and encode the views of every viewpoint of a house's part."""
    house = make_house(read_json(part / "house.json")["seed"])
    places = read_graph(part / "connectivity.json").positions
    chosen = VIEWS_OF[config.views]
    views = encode_house(house, places, open_encoder(config, out), views=chosen)
    _save(part / VIEWS_FILE, views.astype(np.float16))


def _save(path: Path, array: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def make_part(config: HousesConfig, folder: Path, seed: int) -> None:
    """Write the part of one house."""
    house = make_house(seed)
    ground = ground_of(house)
    viewpoints = place_viewpoints(house, ground)
    part = folder / f"{scan_of(seed)}.tmp"
    write_json(part / "connectivity.json", connectivity(viewpoints), indent=None)
    known = HouseMap(house, viewpoints)
    paths, errands = _counts(config, seed)
    described = make_episodes(known, sum(paths.values()))
    sent = make_errands(known, sum(errands.values()))
    first = _path_id(config, seed)
    for split in paths:
        one = Part(folder=part, split=split)
        chosen, described = described[: paths[split]], described[paths[split] :]
        walks = r2r_episodes(viewpoints.graph, chosen, first, split)
        one.write(viewpoints, ground if config.continuous else None, walks)
        first += len(chosen)
        asked, sent = sent[: errands[split]], sent[errands[split] :]
        write_reverie(one.reverie, reverie_episodes(viewpoints.graph, asked, first, split))
        first += len(asked)
    write_boxes(part / BOXES, boxes_of(known))
    write_json(part / "house.json", {"seed": seed, "digest": house.digest()})
    part.rename(folder / scan_of(seed))


def _counts(config: HousesConfig, seed: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many paths and errands of a house go to each split."""
    if seed in config.unseen_seeds:
        return {"val_unseen": config.unseen_paths}, {"val_unseen": config.unseen_errands}
    return (
        {"train": config.paths, "val_seen": config.seen_paths},
        {"train": config.errands, "val_seen": config.seen_errands},
    )


def _path_id(config: HousesConfig, seed: int) -> int:
    """Return the first path id of a house: houses count from 0, unseen ones behind the others."""
    number = (
        seed - config.seed
        if seed in config.train_seeds
        else config.train + seed - config.unseen_seeds.start
    )
    return number * PER_HOUSE


# --- joining -------------------------------------------------------------------------------------


def _join(config: HousesConfig, out: Path, seeds: Sequence[int]) -> None:
    folders = [out / PARTS / scan_of(seed) for seed in seeds]
    for folder in folders:
        target = out / "connectivity" / f"{folder.name}_connectivity.json"
        write_text(target, (folder / "connectivity.json").read_text("utf-8"))
    write_text(out / "connectivity" / "scans.txt", "".join(f"{f.name}\n" for f in folders))
    for split in SPLITS:
        parts = [Part(folder=folder, split=split) for folder in folders]
        there = [part for part in parts if part.r2r.is_file()]
        rows = [entry for part in there for entry in read_json(part.r2r)]
        write_json(out / "r2r" / f"R2R_{split}.json", rows)
        asked = [entry for part in there for entry in read_json(part.reverie)]
        write_json(out / "reverie" / f"REVERIE_{split}.json", asked)
        if config.continuous:
            _join_continuous(out / VLNCE / split, split, there)
    encoder = open_encoder(config, out)
    attrs: dict[str, str | int | float] = {"source": encoder.name, "digest": encoder.digest}
    file = out / "features" / f"{FEATURES}.hdf5"
    write_features(file, folders, attrs, VIEWS_OF[config.views])
    write_words(out)
    boxes = {key: value for folder in folders for key, value in read_json(folder / BOXES).items()}
    write_json(out / "reverie" / BOXES, boxes, indent=None)
    seen, scans = read_boxes(out / "reverie" / BOXES), [folder.name for folder in folders]
    objects = named_objects(seen, ThingWords(), scans)
    write_objects(out / "features" / f"{OBJECTS}.hdf5", objects)
    houses = {folder.name: read_json(folder / "house.json") for folder in folders}
    write_json(out / FINISHED, {"config": asdict(config), "houses": houses})


def _join_continuous(folder: Path, split: str, parts: Sequence[Part]) -> None:
    episodes = [entry for part in parts for entry in read_json(part.vlnce)["episodes"]]
    walks = {name: walk for part in parts for name, walk in read_json(part.trajectories).items()}
    write_json(folder / f"{split}.json.gz", {"episodes": episodes}, indent=None)
    write_json(folder / f"{split}_gt.json.gz", walks, indent=None)


def write_features(
    target: Path,
    parts: Sequence[Path],
    attrs: dict[str, str | int | float],
    views: slice = slice(None),
) -> None:
    """Join the view features of parts, of some of the 36 views, into one HDF5 file."""

    def items() -> Iterator[tuple[str, Any]]:
        for folder in parts:
            names = [entry["image_id"] for entry in read_json(folder / "connectivity.json")]
            views = np.load(folder / VIEWS_FILE, allow_pickle=False)
            for name, values in zip(names, views, strict=True):
                yield f"{folder.name}_{name}", values

    headings, elevations = camera_angles()
    write_views(target, items(), headings[views], elevations[views], attrs)


def write_words(out: Path) -> None:
    """Write the words of instructions: a tokenizer, and vectors that views are made of too."""
    words = tokenizer_words()
    tokenizer = word_tokenizer(words)
    write_text(out / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    _save(out / "words.npy", word_vectors(words))


def tokenizer_words() -> list[str]:
    """Return the words by id: the same for all houses, so that policies move between folders."""
    words = [*SPECIAL, *vocabulary()]
    return words + [f"[unused{i}]" for i in range(VOCABULARY - len(words))]


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """Return a tokenizer of whole words: ``[CLS] words [SEP]``, 0 is padding."""
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(w, ids[w]) for w in ("[CLS]", "[SEP]")]
    )
    return tokenizer
