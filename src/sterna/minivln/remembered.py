"""What a frozen teacher says about instructions and viewpoints, each said once and kept on disk.

Neither depends on the student. Every instruction is read alone, and a (viewpoint, pose) is looked
at together with the arrivals at its block of viewpoints, which the world alone decides, so that no
bit depends on the order they are met in: a run computes the same numbers without a folder, while it
fills one, and from a full one.

Layout of a folder: ``teacher-<digest>/<scan>-<digest>.safetensors``, one file a scan, written under
another name first and then renamed. The first digest covers the teacher's sizes and weights, the
type it computes in, the machine, and a probe of its outputs (so that other arithmetic never hits);
the second what is read and seen in the scan. Two runs may fill a folder side by side.

Legend: B episodes, R (viewpoint, pose) pairs, L words, T panorama tokens, E teacher width.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.files import write_bytes
from sterna.models.agent import look, token_batch
from sterna.models.duet import DUET
from sterna.models.layers import compute_dtype, key_bias
from sterna.models.text import TextMemory
from sterna.world.geometry import VIEWS, Ints, view_of_heading

FORMAT = 2
"""Version of the layout of the files, and of what is looked at together."""

_BLOCK = 8
"""Viewpoints whose arrivals are looked at in one pass: some 30 panoramas."""

_PARTS = ("words", "word_ends", "tokens", "token_ends", "means", "pairs")
_HOUR = 3600.0

Looks = tuple[Tensor, Tensor]
"""Tokens [T, E] and their mean [E]."""


class Remembered:
    """A frozen teacher's words and panoramas, kept by instruction and by (viewpoint, pose).

    With `folder` they are kept there for later runs too, for all of `episodes` and all poses that
    an agent can arrive in; what is met beyond is kept in memory, at most `limit` panoramas.
    """

    def __init__(
        self,
        teacher: DUET,
        panoramas: Panoramas,
        *,
        folder: Path | None = None,
        episodes: Sequence[Episode] = (),
        limit: int = 60_000,
    ) -> None:
        """Wrap a teacher in eval mode, whose weights no longer change."""
        self.teacher, self.panoramas, self.limit = teacher, panoramas, limit
        self._table = torch.from_numpy(panoramas.features)
        self._root, self._folder = folder, Path()
        self._episodes: dict[str, dict[str, Episode]] = {}
        for episode in episodes if folder is not None else ():
            self._episodes.setdefault(episode.scan, {})[episode.instr_id] = episode
        self._opened: set[str] = set()
        self._words: dict[str, Tensor] = {}
        self._looks: dict[int, Looks] = {}
        self._companies: dict[int, dict[int, Ints]] = {}

    # What a task asks for.

    def words(self, episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
        """Return the outputs of the language encoder [B, L, E], float32, and their mask [B, L]."""
        self._open({e.scan for e in episodes if e.instr_id not in self._words})
        for episode in episodes:
            if episode.instr_id not in self._words:
                self._words[episode.instr_id] = self._read(episode)
        rows = [self._words[episode.instr_id] for episode in episodes]
        x = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self._device, torch.float32)
        lengths = torch.tensor([len(row) for row in rows])
        return x, (torch.arange(x.shape[1]) < lengths[:, None]).to(self._device)

    def text(self, episodes: Sequence[Episode]) -> TextMemory:
        """Return what B instructions leave for navigation."""
        x, mask = self.words(episodes)
        local, nodes = self.teacher.local_encoder.encoder, self.teacher.global_encoder.encoder
        return TextMemory(
            embeds=x, mask=mask, local=local.text_memory(x), global_=nodes.text_memory(x)
        )

    def means(self, node: Ints, pose: Ints) -> Tensor:
        """Return panorama means of R pairs, [R, E]."""
        return torch.stack([mean for _, mean in self._seen(node, pose)]).to(self._device)

    def looks(self, node: Ints, pose: Ints) -> tuple[Tensor, Tensor, Tensor]:
        """Return panorama tokens [R, T, E] of R pairs, their mask [R, T] and their mean [R, E]."""
        seen = self._seen(node, pose)
        tokens = nn.utils.rnn.pad_sequence([tokens for tokens, _ in seen], batch_first=True)
        mask = torch.from_numpy(self.panoramas.mask[node, : tokens.shape[1]])
        means = torch.stack([mean for _, mean in seen])
        return tokens.to(self._device), mask.to(self._device), means.to(self._device)

    def fill(self) -> None:
        """Write what the folder lacks, with a progress bar that first says how large it may get.

        Raises `InputError` where that does not fit on the disk.
        """
        if self._root is None:
            return
        scans = sorted(self._episodes)
        self._begin()
        missing = [scan for scan in scans if not self._file(scan).is_file()]
        if not missing:
            return
        size = sum(self._size(scan) for scan in missing)
        free = shutil.disk_usage(self._folder).free
        if size > free:
            raise InputError(
                f"{self._folder}: the teacher's outputs need {size / 1e9:.1f} GB, {free / 1e9:.1f} "
                "GB are free; give another --data.cache, or --distill.no-cache"
            )
        # Two runs side by side begin at different scans, and find each other's files done.
        start = os.getpid() % len(missing)
        about = f"teacher's outputs, {size / 1e9:.2f} GB in {self._folder}"
        for scan in tqdm(missing[start:] + missing[:start], desc=about, unit="scan"):
            self._open({scan})

    def filling_time(self, episodes: Sequence[Episode], some: int) -> float:
        """Return the seconds that filling a folder for `episodes` takes, measured on `some`."""
        scans: dict[str, list[Episode]] = {}
        for episode in episodes:
            scans.setdefault(episode.scan, []).append(episode)
        pairs = np.concatenate([self._pairs(scan, found) for scan, found in scans.items()])
        began = time.perf_counter()
        for episode in episodes[:: max(1, len(episodes) // some)][:some]:
            self._read(episode)
        read = time.perf_counter()
        looked = [self._company(p) for p in pairs[:: max(1, len(pairs) // some)][:some].tolist()]
        for company in looked:
            self._look(company)
        look_at = (time.perf_counter() - read) / sum(map(len, looked))
        return len(episodes) * (read - began) / some + len(pairs) * look_at

    # What is computed.

    @property
    def _device(self) -> torch.device:
        return next(self.teacher.parameters()).device

    @torch.no_grad()
    def _read(self, episode: Episode) -> Tensor:
        ids, mask = (t.to(self._device) for t in token_batch([episode]))
        x, _, _ = self.teacher.lang_encoder(self.teacher.embeddings(ids), key_bias(mask))
        return _plain(x[0])

    @torch.no_grad()
    def _look(self, pairs: Ints) -> list[Looks]:
        """Look at some pairs in one pass."""
        node, pose = np.divmod(pairs, VIEWS)
        seen = look(self.teacher, self.panoramas, self._table, node, pose)
        lengths = self.panoramas.lengths[node].tolist()
        tokens = [_plain(row[:n]) for row, n in zip(seen.embeds, lengths, strict=True)]
        return list(zip(tokens, map(_plain, seen.mean), strict=True))

    def _company(self, pair: int) -> Ints:
        """Return the pairs that are looked at with a pair, itself among them.

        A pose that nobody arrives in is looked at alone.
        """
        atlas = self.panoramas.atlas
        scan = int(atlas.scan_of[pair // VIEWS])
        if scan not in self._companies:
            pairs = self._pairs(atlas.graphs[scan].scan, ())
            block = (pairs // VIEWS - int(atlas.offset[scan])) // _BLOCK
            parts = np.split(pairs, np.flatnonzero(np.diff(block)) + 1)
            self._companies[scan] = {p: part for part in parts for p in part.tolist()}
        return self._companies[scan].get(pair, np.array([pair]))

    def _met(self, pair: int) -> Looks:
        """Return what is seen from a pair; what was looked at with it is remembered too."""
        if pair not in self._looks:
            company = self._company(pair)
            self._looks.update(zip(company.tolist(), self._look(company), strict=True))
        return self._looks[pair]

    def _seen(self, node: Ints, pose: Ints) -> list[Looks]:
        pairs = (node * VIEWS + pose).tolist()
        new = [n for n, pair in enumerate(pairs) if pair not in self._looks]
        if new:
            atlas = self.panoramas.atlas
            self._open({atlas.graphs[s].scan for s in np.unique(atlas.scan_of[node[new]])})
        if len(self._looks) > self.limit and not self._opened:
            self._looks.clear()
        return [self._met(pair) for pair in pairs]

    # What is kept on disk.

    def _open(self, scans: set[str]) -> None:
        """Take over the files of scans, and write those that are missing."""
        for scan in sorted((scans & self._episodes.keys()) - self._opened):
            self._begin()
            file = self._file(scan)
            if not file.is_file():
                self._write(file, scan)
            self._take(file, scan)
            self._opened.add(scan)

    def _begin(self) -> None:
        """Name the teacher's folder; only now, because precision is that of the first use."""
        if self._folder != Path() or self._root is None:
            return
        self._folder = self._root / f"teacher-{self._digest()}"
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in self._folder.glob(".*"):  # left behind by killed runs
            if time.time() - file.stat().st_mtime > _HOUR:
                file.unlink(missing_ok=True)

    def _digest(self) -> str:
        """Hash what decides the teacher's numbers, whatever it reads and sees."""
        device = self._device
        facts = [FORMAT, repr(self.teacher.config), str(compute_dtype(device)), torch.__version__]
        facts += [device.type, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
        if device.type == "cuda":
            facts.append(torch.cuda.get_device_name(device))
        digest = hashlib.sha256(json.dumps(facts).encode())
        for name, value in sorted(self.teacher.state_dict().items()):
            digest.update(name.encode())
            digest.update(_bytes(value))
        for value in self._probe():
            digest.update(_bytes(value))
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def _probe(self) -> tuple[Tensor, Tensor]:
        """Run the teacher over made-up words and views: other arithmetic gives other bits."""
        config, device, views = self.teacher.config, self._device, 5

        def wave(*shape: int) -> Tensor:
            return torch.arange(float(np.prod(shape)), device=device).sin().view(shape)

        ids = (torch.arange(min(12, config.max_positions), device=device) % config.vocab_size)[None]
        x, _, _ = self.teacher.lang_encoder(self.teacher.embeddings(ids), key_bias(ids >= 0))
        kinds = (torch.arange(views, device=device) < 2).long()[None]
        seen = self.teacher.encode_panorama(
            wave(1, views, config.feature_size), wave(1, views, 7), kinds, kinds >= 0
        )
        return x, seen.embeds

    def _pairs(self, scan: str, episodes: Iterable[Episode]) -> Ints:
        """Return node * VIEWS + pose of all that can be met in a scan: arrivals and starts."""
        atlas = self.panoramas.atlas
        number = atlas.scan_number[scan]
        nodes = np.arange(atlas.offset[number], atlas.offset[number + 1])
        goal = atlas.candidates[nodes]
        arrivals = (goal * VIEWS + atlas.candidate_view[nodes])[goal >= 0]
        episodes = list(episodes)
        start = np.array([atlas.node(scan, e.start) for e in episodes], np.int64)
        pose = view_of_heading(np.array([e.heading for e in episodes]))
        return np.union1d(arrivals, start * VIEWS + pose)

    def _kept_pairs(self, scan: str) -> Ints:
        return self._pairs(scan, self._episodes[scan].values())

    def _size(self, scan: str) -> int:
        """Bytes of a scan's file, but for its head."""
        words = sum(len(e.token_ids or ()) for e in self._episodes[scan].values())
        tokens = int((self.panoramas.lengths[self._kept_pairs(scan) // VIEWS] + 1).sum())
        width = torch.finfo(compute_dtype(self._device)).bits // 8
        return (words + tokens) * self.teacher.config.hidden_size * width

    def _file(self, scan: str) -> Path:
        """Name a scan's file by all that is read and seen there."""
        world, pairs = self.panoramas, self._kept_pairs(scan)
        base = world.atlas.offset[world.atlas.scan_number[scan]]
        node, pose = pairs // VIEWS, pairs % VIEWS
        nodes = np.unique(node)
        rows = world.token_rows[nodes]
        content = [(name, e.token_ids) for name, e in self._episodes[scan].items()]
        digest = hashlib.sha256(json.dumps(content).encode())
        seen = [pairs - base * VIEWS, world.lengths[nodes], world.nav_types[nodes]]
        seen += [world.locations(node, pose, world.mask.shape[1]), world.features[rows]]
        if world.object_size is not None:
            seen.append(world.object_features[world.object_rows[nodes]])
        for array in seen:
            digest.update(np.ascontiguousarray(array).data)
        return self._folder / f"{scan}-{digest.hexdigest()[:16]}.safetensors"

    def _write(self, file: Path, scan: str) -> None:
        pairs = self._kept_pairs(scan)
        words = [self._read(episode) for episode in self._episodes[scan].values()]
        looks = [self._met(pair) for pair in pairs.tolist()]
        base = int(self.panoramas.atlas.offset[self.panoramas.atlas.scan_number[scan]])
        values = {
            "words": torch.cat(words),
            "word_ends": torch.tensor([len(x) for x in words]).cumsum(0),
            "tokens": torch.cat([tokens for tokens, _ in looks]),
            "token_ends": torch.tensor([len(tokens) for tokens, _ in looks]).cumsum(0),
            "means": torch.stack([mean for _, mean in looks]),
            "pairs": torch.from_numpy(pairs - base * VIEWS),
        }
        sums = {name: str(zlib.crc32(_bytes(value))) for name, value in values.items()}
        write_bytes(file, save(values, metadata=sums))

    def _take(self, file: Path, scan: str) -> None:
        """Keep views into a mapped file; `InputError` for one that is damaged."""
        values = _mapped(file)
        base = int(self.panoramas.atlas.offset[self.panoramas.atlas.scan_number[scan]])
        ends = values["word_ends"][:-1]
        self._words |= zip(self._episodes[scan], values["words"].tensor_split(ends), strict=True)
        tokens = values["tokens"].tensor_split(values["token_ends"][:-1])
        pairs = (values["pairs"] + base * VIEWS).tolist()
        self._looks |= zip(pairs, zip(tokens, values["means"], strict=True), strict=True)


def _mapped(file: Path) -> dict[str, Tensor]:
    """Map the tensors of a file and check their sums."""
    try:
        with safe_open(file, framework="pt") as content:
            sums = content.metadata() or {}
            values = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f"{file}: not a whole file ({reason}); delete it, it is made anew"
        ) from error
    wrong = [
        n for n in _PARTS if n not in values or sums.get(n) != str(zlib.crc32(_bytes(values[n])))
    ]
    if wrong:
        raise InputError(
            f"{file}: damaged ({wrong[0]} is not what was written); delete it, it is made anew"
        )
    return values


def _plain(x: Tensor) -> Tensor:
    return x.detach().to("cpu", copy=True).contiguous()


def _bytes(x: Tensor) -> memoryview:
    """Bytes of a tensor, whatever its type."""
    return x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
