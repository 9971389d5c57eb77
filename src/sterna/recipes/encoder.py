"""The view encoder: trained on pictures of houses to name what they show, frozen, applied.

`train_encoder` makes one in about a minute; `encode_house` turns the panoramas of a house into
features [N, 36, F].
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.models.encoder import DTYPES, Encoder, Precision, ViewEncoder, save_encoder
from sterna.models.viewnet import SHARE_FLOOR, ViewNet, ViewNetConfig, ViewOutput
from sterna.recipes.viewsamples import Sample, draw_samples
from sterna.train.checkpoint import load_state, save_state
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, Floats
from sterna.world.houses.oracle import Oracle
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.render import Camera, Renderer
from sterna.world.houses.scene import House
from sterna.world.houses.seen import COLOUR_NAMES, ROOMS, seen
from sterna.world.houses.words import CONCEPTS, GROUPS, THING_CLASSES, name_vectors, shares

Numbers = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """How a view encoder is trained."""

    seeds: tuple[int, int] = (0, 60)
    """Houses it learns from: first seed, and the first that is none of them."""
    held_out: tuple[int, int] = (100_000, 100_004)
    """Houses it is scored on."""
    views: int = 500
    """Pictures a house, from random viewpoints in random directions."""
    epochs: int = 3
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    side: int = 48
    """Side of a picture in pixels."""
    width: int = 48
    """Channels of the network."""
    fov: float = 60.0
    """Field of view in degrees."""
    precision: Precision = "fp32"
    """What the network computes in while it learns; bf16 is faster where the processor has it."""
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        for name, (first, last) in (("seeds", self.seeds), ("held_out", self.held_out)):
            if not 0 <= first < last:
                raise InputError(f"encoder: {name} must be a range of seeds, found {first}-{last}")
        if self.seeds[0] < self.held_out[1] and self.held_out[0] < self.seeds[1]:
            raise InputError("encoder: houses it is scored on must not be among those it learns")
        for name in ("views", "epochs", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"encoder: {name} must be at least 1, found {getattr(self, name)}")


def train_encoder(
    config: EncoderConfig, out: str | Path, *, workers: int = 1, half: bool = False
) -> Path:
    """Train a view encoder, score it on houses it has not seen, write it to a folder.

    Returns the folder (`load_encoder` reads it); its config.json holds the scores. A killed run
    goes on where its last epoch ended. `workers` processes draw the pictures; `half` writes weights
    of 16 bits.
    """
    torch.set_num_threads(config.threads)
    begun, start = Path(out) / ".begun", time.perf_counter()
    _check_begun(config, begun)
    keep = begun / "pictures"
    sample = draw_samples(config, config.seeds, "pictures", workers=workers, keep=keep)
    rendered = time.perf_counter() - start
    net = _fit(config, sample, begun / "state.pt")
    base = sample.shown.mean(0, dtype=np.float64).astype(np.float32)
    encoder = ViewEncoder(net.fused(), base)
    seconds = {"pictures": rendered, "training": time.perf_counter() - start - rendered}
    held_out = draw_samples(config, config.held_out, "held-out pictures")
    scores = score_encoder(encoder, held_out)
    notes = {"settings": vars(config), "seconds": seconds, "scores": scores}
    folder = save_encoder(encoder, out, notes, half=half)
    shutil.rmtree(begun)
    return folder


def _check_begun(config: EncoderConfig, begun: Path) -> None:
    """Refuse to go on with a run of other settings."""
    file, wanted = begun / "settings.json", json.loads(json.dumps(vars(config)))
    if file.is_file() and read_json(file) != wanted:
        raise InputError(
            f"{begun}: an encoder was begun there with other settings; give another folder, or "
            "delete this one"
        )
    write_json(file, wanted)


def _fit(config: EncoderConfig, sample: Sample, state: Path) -> ViewNet:
    torch.manual_seed(config.seed)
    sizes = ViewNetConfig(
        side=config.side,
        width=config.width,
        kinds=len(CLASSES),
        colours=len(COLOUR_NAMES),
        rooms=len(ROOMS),
        named=tuple(THING_CLASSES.tolist()),
    )
    net: ViewNet = ViewNet(sizes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _expect(net, sample)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=config.weight_decay)
    epoch = max(1, len(sample.pictures) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.epochs * epoch, pct_start=0.2
    )
    done = 0
    if state.is_file():
        progress, _ = load_state(state, {"net": net}, optimizer)
        schedule.load_state_dict(progress["schedule"])
        done = int(progress["steps"])
    bar = tqdm(total=config.epochs * epoch, initial=done, desc="view encoder", unit="step")
    for number, rows in enumerate(_batches(config, len(sample.pictures))):
        if number < done:
            continue
        loss = _loss(net, sample, rows, config.precision, mirrored=bool(number % 2))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        bar.update()
        if number % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if (number + 1) % epoch == 0:
            reached = {"schedule": schedule.state_dict(), "steps": number + 1}
            save_state(state, {"net": net}, optimizer, reached)
    bar.close()
    return net


@torch.no_grad()
def _expect(net: ViewNet, sample: Sample) -> None:
    """Let concepts begin as probable as they are, so that no steps go into learning that."""
    base = torch.from_numpy(sample.shown.mean(0)).float().clamp(1e-4, 0.9)
    share = torch.from_numpy(shares(sample.cells).mean(0))
    net.offset.copy_(torch.logit(base) - torch.log(share + SHARE_FLOOR))


def _batches(config: EncoderConfig, count: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng([config.seed, 1])
    size = min(config.batch_size, count)
    for _ in range(config.epochs):
        order = rng.permutation(count)
        for first in range(0, count // size * size, size):
            yield np.sort(order[first : first + size])


def _loss(
    net: ViewNet, sample: Sample, rows: NDArray[np.int64], precision: Precision, *, mirrored: bool
) -> Tensor:
    """Cross-entropy of what stands in the cells, plus that of what the whole view shows.

    Every other batch is mirrored: a house seen in a mirror is a house.
    """
    pictures = torch.from_numpy(sample.pictures[rows])
    side = net.config.cells

    def target(counts: NDArray[np.uint8]) -> Tensor:
        share = torch.from_numpy(counts[rows]).float()
        if mirrored:
            share = share.view(len(share), side, side, -1).flip(2).flatten(1, 2)
        return share / share.sum(-1, keepdim=True)

    with torch.autocast("cpu", DTYPES[precision], enabled=precision != "fp32"):
        answers: ViewOutput = net(pictures.flip(2) if mirrored else pictures)
    output = ViewOutput(*(part.float() for part in answers))
    parts = (sample.cells.kinds, sample.cells.colours, sample.cells.rooms)
    cells = [
        F.cross_entropy(logits.flatten(0, 1), target(counts).flatten(0, 1))
        for logits, counts in zip(output, parts, strict=True)
    ]
    whole = F.binary_cross_entropy_with_logits(
        net.visible(output), torch.from_numpy(sample.shown[rows]).float(), reduction="none"
    )
    return torch.stack(cells).sum() + whole.sum(1).mean() / 4


def average_precision(scores: Numbers, truth: NDArray[np.bool_]) -> float:
    """Area under precision over recall of one concept: scores [n], truth [n] with a positive."""
    hits = truth[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def score_encoder(encoder: ViewEncoder, sample: Sample, least: int = 5) -> dict[str, Any]:
    """Mean average precision by group of concepts, of those that at least `least` views show.

    `words`: from the probabilities; `vectors`: from the product of feature and word vector alone,
    which is what a policy's first attention sees; `base`: of a random order.
    """
    features = encoder(sample.pictures)
    half = features.shape[1] // 2
    names = name_vectors(CONCEPTS, half)
    colours = GROUPS["colours"]
    read = features[:, :half] @ names.T
    read[:, colours] = features[:, half:] @ names[colours].T
    kinds = {"words": encoder.probabilities(sample.pictures), "vectors": read}
    count = sample.shown.sum(0)
    out: dict[str, Any] = {"views": len(sample.pictures)}
    for group, part in GROUPS.items():
        chosen = [c for c in range(part.start, part.stop) if count[c] >= least]
        scores = {
            kind: float(np.mean([average_precision(s[:, c], sample.shown[:, c]) for c in chosen]))
            for kind, s in kinds.items()
        }
        base = float(np.mean([count[c] for c in chosen]) / len(sample.pictures))
        out[group] = {"concepts": len(chosen), "base": base, **scores}
    return out


def encode_house(
    house: House,
    places: Floats,
    encoder: Encoder | Oracle,
    *,
    fov: float = 60.0,
    threads: int = 1,
    views: slice = slice(None),
) -> Numbers:
    """Render the 36 views of all places [N, 3] (metres) and encode them: float32 [N, 36, F].

    `views` selects some of the 36.
    """
    renderer, count = Renderer(house, threads=threads), len(places)
    frames = renderer.panorama(places, encoder.pixels, fov, views=views)
    if isinstance(encoder, Oracle):
        width, height = encoder.pixels
        camera = Camera(width=width, height=height, hfov=fov)
        angles = np.column_stack([VIEW_HEADINGS, VIEW_ELEVATIONS])[views]
        poses = np.concatenate([places.repeat(len(angles), 0), np.tile(angles, (count, 1))], axis=1)
        features = encoder.of_labels(seen(house, camera, frames, poses))
    else:
        features = encoder(frames.rgb)
    return features.reshape(count, len(features) // count, -1)
