"""Files become a world: episodes with word ids, panoramas with features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sterna.data.boxes import Boxes, read_boxes
from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.objects import ObjectStore
from sterna.data.r2r import check_episodes, load_graphs
from sterna.data.textobs import embed_observations, observed_scans
from sterna.data.views import ViewStore
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.models.sentence import SentenceEncoder
from sterna.models.tokens import Tokenizer, find_encoder
from sterna.recipes.answers import read_answers
from sterna.recipes.config import DataConfig
from sterna.recipes.objects import open_objects
from sterna.world.atlas import Atlas


class World:
    """A data folder as a run sees it; every part is read when first asked for."""

    def __init__(self, root: str | Path, config: DataConfig) -> None:
        """Look into a data folder; `InputError` if there is none."""
        self.layout, self.config = Layout(root), config
        self._read: dict[tuple[str, int | None], list[Episode]] = {}
        self._bare: dict[frozenset[str], Panoramas] = {}

    @cached_property
    def encoder(self) -> Path:
        """Folder of the sentence encoder; a data folder's own tokeniser wins over the default."""
        own = self.layout.root / "tokenizer.json"
        return self.layout.root if own.is_file() else find_encoder(self.config.encoder)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self.encoder / "tokenizer.json")

    def episodes(self, split: str, *, about: int | None = None) -> list[Episode]:
        """Read, check and tokenise a split; `about`: every k-th episode, about that many.

        Raises `InputError` for a missing scan, an unknown viewpoint or a path over a non-edge.
        """
        if (split, about) not in self._read:
            self._read[split, about] = self._episodes(split, about)
        return list(self._read[split, about])

    def _episodes(self, split: str, about: int | None) -> list[Episode]:
        task = self.config.task
        self.layout.annotations(task, split)  # named first, where a folder has neither it nor boxes
        boxes = self.boxes if self.config.grounded else None
        episodes = read_answers(self.layout, task, split, boxes, self.config.which)
        if task == "rxr":  # files with word ids have those of a vocabulary of a hundred languages
            episodes = [replace(episode, token_ids=None) for episode in episodes]
        check_episodes(episodes, load_graphs(self.layout.connectivity, episodes))
        if about is not None:
            episodes = episodes[:: max(1, round(len(episodes) / max(1, about)))]
        return self.tokenise(episodes)

    def tokenise(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Fill word ids where the annotations carry none, and cut all to `max_words`.

        Of a dialog (NDH) the last words stay behind [CLS], as the publisher keeps them: the latest
        answer says the way. Of other instructions the first stay.
        """
        cut = self.config.max_words
        bare = [e.instruction for e in episodes if not e.token_ids]
        fresh = iter(self._tokenizer.batch(bare, _ENDLESS) if bare else ())
        shorten = _ending if self.config.task == "ndh" else _beginning
        return [
            replace(e, token_ids=shorten(e.token_ids or tuple(next(fresh)), cut)) for e in episodes
        ]

    @cached_property
    def boxes(self) -> Boxes:
        """Objects of REVERIE: their names, and from where they are seen; other tasks share them."""
        return read_boxes(self.layout.boxes)

    @cached_property
    def views(self) -> ViewStore:
        """The view store: an HDF5 file, or text observations embedded once and kept."""
        config = self.config
        if config.views == "text":
            path = self._embedded()
        else:
            named = Path(config.views)
            path = named if named.is_file() else self.layout.features(config.views)
        store = ViewStore.open(path, feature_size=config.feature_size, dtype=np.float16)
        return store.blind() if config.blind else store

    def _embedded(self) -> Path:
        source = self.layout.textobs
        scans = observed_scans(source)
        folder = self.config.cache or Path.home() / ".cache" / "sterna"
        files = sorted((source / "observations_list_summarized").iterdir())
        print_ = "".join(f"{f.name}:{f.stat().st_size};" for f in files)
        encoder = SentenceEncoder.from_folder(self.config.encoder)
        stamp = hashlib.sha256(f"{encoder.digest}{print_}".encode()).hexdigest()[:12]
        path = folder / f"textobs-{stamp}.hdf5"
        if not path.is_file():
            embed_observations(source, encoder, path, scans=scans)
        return path

    def bare_panoramas(self, episodes: Iterable[Episode]) -> Panoramas:
        """Lay out the scans that episodes need; `InputError` for a missing viewpoint or feature."""
        scans = frozenset(episode.scan for episode in episodes)
        if scans not in self._bare:
            self._bare = {scans: Panoramas(Atlas.load(self.layout.connectivity, scans), self.views)}
        return self._bare[scans]

    def objects(self, atlas: Atlas, *, logits: bool = False) -> ObjectStore | None:
        """Return the objects of an atlas, or None for a task without; `logits`: with class logits.

        Raises `InputError` for a file of objects of other scans or of no known layout.
        """
        if not self.config.grounded:
            return None
        return open_objects(self.layout, self.config, self.boxes, atlas, logits=logits)

    def panoramas(self, episodes: Iterable[Episode]) -> Panoramas:
        """Lay out the scans that episodes need with all their objects, as evaluation shows them."""
        return self.training_panoramas(episodes)[1]

    def training_panoramas(self, episodes: Iterable[Episode]) -> tuple[Panoramas, Panoramas]:
        """Lay out scans as training shows them and as evaluation does.

        The two differ in how many objects a viewpoint shows (`DataConfig.max_objects`).
        """
        bare = self.bare_panoramas(episodes)
        objects, most = self.objects(bare.atlas), self.config.max_objects
        if objects is None:
            return bare, bare
        every = bare.showing(objects)
        return (every if most is None else bare.showing(objects, max_objects=most)), every

    def pointing_panoramas(self, episodes: Iterable[Episode]) -> tuple[Panoramas, ObjectStore]:
        """Lay out scans with all their objects for a task that asks for a direction (SOON).

        Also returns the objects, which say where they are. `InputError` where there are none.
        """
        bare = self.bare_panoramas(episodes)
        objects = open_objects(self.layout, self.config, self.boxes, bare.atlas)
        if objects is None:
            raise InputError(
                f"{self.config.task}: the policy reads objects, this world shows none; name them "
                "(--objects of eval)"
            )
        return bare.showing(objects), objects

    def word_vectors(self, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (word table [vocabulary, width], view projection [width, D]).

        A data folder's own ``words.npy`` [vocabulary, D] wins over the sentence encoder's words,
        whose reduction is cached on disk.
        """
        own = self.layout.root / "words.npy"
        if own.is_file():
            return _own_words(own, width)
        from sterna.models.words import word_table

        encoder = SentenceEncoder.from_folder(self.config.encoder)
        folder = self.config.cache or Path.home() / ".cache" / "sterna"
        path = folder / f"words-{encoder.digest[:12]}-{width}.npz"
        if not path.is_file():
            table = word_table(encoder, width)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part.npz")
            np.savez(partial, vectors=table.vectors, weight=table.image_linear()[0])
            partial.replace(path)
        with np.load(path, allow_pickle=False) as saved:
            return saved["vectors"], saved["weight"]


_ENDLESS = 1 << 30


def _beginning(ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    return ids[:count]


def _ending(ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    return ids if len(ids) <= count else (ids[0], *ids[len(ids) - count + 1 :])


_shared: list[tuple[Path, World]] | None = None


@contextmanager
def shared_worlds() -> Iterator[None]:
    """Let `open_world` give the same world for the same data while this lasts.

    For many runs one after the other on files that do not change meanwhile.
    """
    global _shared
    before, _shared = _shared, [] if _shared is None else _shared
    try:
        yield
    finally:
        _shared = before


def open_world(root: str | Path, config: DataConfig) -> World:
    """Look into a data folder, or take up the world that was read of it; see `shared_worlds`."""
    if _shared is None:
        return World(root, config)
    for place, world in _shared:
        if place == Path(root) and world.config == config:
            return world
    world = World(root, config)
    _shared[:] = [*_shared[-1:], (Path(root), world)]  # two at most: they hold all features
    return world


def _own_words(path: Path, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turn word vectors [V, D] into `width`: their main directions, mixed over all heads."""
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a whole .npy array ({error}); write it again") from error
    if table.ndim != 2 or table.dtype.kind != "f" or not np.isfinite(table).all():
        raise InputError(
            f"{path}: expected finite vectors [words, features], found {table.dtype} {table.shape}"
        )
    _, _, directions = np.linalg.svd(table, full_matrices=False)
    kept = min(width, len(directions))
    mixing = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))[0][:, :kept]
    projection = (mixing @ directions[:kept]).astype(np.float32)
    longest = np.linalg.norm(table, axis=1).max()
    return (table @ projection.T / longest).astype(np.float32), projection
