"""A student begins from its teacher: mapped blocks, and every width reduced by a fixed projection.

Block m of the student takes block h(m) of the teacher (eq. (5)); between equal sizes everything is
copied. Otherwise, with P [D, E] the first D principal directions of the teacher's hidden states
(rows orthonormal), a student state stands for P times the teacher's:

- what writes to the states (tables, output linears) becomes P W, P b; what reads them W P^T;
- queries and keys of the heads that one student head replaces: the product M, mean over those heads
  of (W_q x + b_q)^T (W_k y + b_k) / sqrt(head width), is a bilinear form of [x, 1] and [y, 1]; its
  best approximation of the student's rank, weighted by the states' second moments, gives both;
- values and outputs: the same for the sum over those heads of P W_o (W_v x + b_v);
- feed-forward units: the largest products |row of W_1 P^T| |column of P W_2|; the mean of what the
  others add goes into the bias;
- LayerNorms: gain and bias that fit P times the teacher's output best, coordinate by coordinate;
- heads: hidden units by norm, their last linear by least squares on the teacher's scores.

P is turned so that the direction which a LayerNorm takes away, the mean over coordinates, is the
one with the least energy. All means are over what the teacher sees and reads on demonstrations.

Legend: D student width, E teacher width, N samples, U units.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.minivln.stage1 import block_maps
from sterna.models.agent import look, to_navigate, token_batch
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.layers import Attention, Head
from sterna.models.panorama import PackedAttention
from sterna.models.text import TextMemory
from sterna.train.imitation import ImitationConfig, record
from sterna.train.packed import buckets, navigate_packed

SAMPLES = 16
"""Demonstrations that the means are taken over."""

_BLOCKS = {
    "lang_encoder.layer": "language",
    "img_embeddings.pano_encoder.layers": "panorama",
    "local_encoder.encoder.x_layers": "local",
    "global_encoder.encoder.x_layers": "global",
}
_FEED_FORWARD = (
    ("intermediate.dense", "output.dense"),
    ("visn_inter.dense", "visn_output.dense"),
    ("lang_inter.dense", "lang_output.dense"),
    ("linear1", "linear2"),
)


@torch.no_grad()
def inherit(
    student: DUET, teacher: DUET, panoramas: Panoramas, episodes: Sequence[Episode]
) -> Tensor:
    """Fill a student's weights from its teacher's; return P^T [E, D], student to teacher.

    `panoramas` and `episodes` are what the teacher looks at for its means. Objects' score (og_head)
    is taken only between equal sizes. Raises `InputError` where the student is wider, deeper or has
    more heads or units, or reads other words or features.
    """
    _require(student.config, teacher.config)
    teacher = teacher.eval()
    pairs = _pairs(student, teacher)
    chosen = [episodes[i] for i in np.linspace(0, len(episodes) - 1, SAMPLES).astype(int)]

    def show() -> None:
        _show(teacher, panoramas, chosen)

    names = ("hidden_size", "heads", "ffn_size")
    if all(getattr(student.config, n) == getattr(teacher.config, n) for n in names):
        _copy(pairs)
        return torch.eye(student.config.hidden_size)
    reduction = _Reduction.of(student.config, teacher.config, pairs, show)
    reduction.fill(pairs, show)
    return reduction.project.T.float()


def _require(student: DuetConfig, teacher: DuetConfig) -> None:
    block_maps(teacher, student)
    for name in ("hidden_size", "heads", "ffn_size", "max_positions", "max_steps"):
        mine, theirs = getattr(student, name), getattr(teacher, name)
        if mine > theirs:
            raise InputError(
                f"from_teacher: {name} is {mine} in the student and {theirs} in the teacher; "
                "a student takes over at most what its teacher has"
            )
    for name in ("vocab_size", "feature_size", "object_size", "graph_bias"):
        mine, theirs = getattr(student, name), getattr(teacher, name)
        if mine != theirs:
            raise InputError(
                f"from_teacher: {name} is {mine} in the student and {theirs} in the teacher; both "
                "must read the same"
            )
    if student.word_size is not None or teacher.word_size is not None:
        raise InputError(
            f"from_teacher: word_size is {student.word_size} in the student and "
            f"{teacher.word_size} in the teacher; a word table of its own width is not taken over, "
            "leave it None"
        )
    if student.lang2visn and not teacher.lang2visn:
        raise InputError("from_teacher: the teacher has no text branches, which the student needs")


@dataclass(frozen=True)
class _Pair:
    """A module of the student and the one of the teacher that it follows."""

    name: str
    mine: nn.Module
    theirs: nn.Module


def _pairs(student: DUET, teacher: DUET) -> dict[str, _Pair]:
    maps = block_maps(teacher.config, student.config)
    theirs = dict(teacher.named_modules())

    def source(name: str) -> str:
        for prefix, module in _BLOCKS.items():
            found = re.match(re.escape(prefix) + r"\.(\d+)", name)
            if found:
                return f"{prefix}.{maps[module][int(found[1])] - 1}{name[found.end() :]}"
        return name

    return {n: _Pair(n, m, theirs[source(n)]) for n, m in student.named_modules()}


def _copy(pairs: dict[str, _Pair]) -> None:
    for pair in pairs.values():
        for name, value in pair.mine.named_parameters(recurse=False):
            value.copy_(getattr(pair.theirs, name)[: len(value)])


def _show(teacher: DUET, panoramas: Panoramas, episodes: Sequence[Episode]) -> None:
    """Let the teacher read, look and decide along demonstrations."""
    device = next(teacher.parameters()).device
    ids, mask = (t.to(device) for t in token_batch(episodes))
    text = teacher.encode_text(ids, mask)
    rows, _, _ = record(panoramas, episodes, None, config=ImitationConfig())
    table = torch.from_numpy(panoramas.features)
    seen = look(teacher, panoramas, table, rows.node, rows.pose)
    groups = list(buckets(rows, seen.embeds.shape[1], 1))
    output = navigate_packed(teacher, text, groups, seen.embeds, seen.mask, seen.mean)
    if teacher.config.lang2visn:
        bucket, _ = output.parts[0]
        agents = torch.from_numpy(bucket.rows.agent).to(device)
        index = torch.from_numpy(bucket.index).to(device)
        features = F.embedding_bag(
            bucket.source.to(device),
            torch.cat([seen.embeds.flatten(0, 1), seen.mean]).float(),
            bucket.offsets.to(device),
            mode="sum",
            per_sample_weights=bucket.weight.to(device),
        ).view(len(rows), -1, seen.embeds.shape[-1])
        places = to_navigate(bucket.rows, device)
        names = ("start_and_candidate_positions", "node_steps", "node_positions", "node_mask")
        words = TextMemory(embeds=text.embeds[agents], mask=text.mask[agents], local=(), global_=())
        teacher.read_with_vision(
            words,
            seen.embeds[index],
            seen.mask[index],
            node_features=features,
            **{name: places[name] for name in names},
        )


Hook = Callable[[Tensor, Tensor], None]
"""Takes the input [N, in] and the output [N, out] of a module, in float64."""


def _watch(hooks: dict[nn.Module, Hook], show: Callable[[], None]) -> None:
    """Run `show` and tell hooks what their modules do."""

    def told(hook: Hook) -> Callable[..., None]:
        def listen(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            x = given[0].detach().double()
            y = out.detach().double()
            hook(x.reshape(-1, x.shape[-1]), y.reshape(len(x.reshape(-1, x.shape[-1])), -1))

        return listen

    handles = [module.register_forward_hook(told(hook)) for module, hook in hooks.items()]
    try:
        show()
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _Reduction:
    """P [D, E], and a root R of the second moments of [P x, 1], [D + 1, D + 1] = R R^T."""

    student: DuetConfig
    teacher: DuetConfig
    project: Tensor
    root: Tensor

    @staticmethod
    def of(
        student: DuetConfig, teacher: DuetConfig, pairs: dict[str, _Pair], show: Callable[[], None]
    ) -> _Reduction:
        """Measure the teacher's states; every LayerNorm's outputs weigh the same."""
        wide, width = teacher.hidden_size, student.hidden_size
        device = next(pairs[""].theirs.parameters()).device
        moments: dict[nn.Module, Tensor] = {}

        def measured(module: nn.Module) -> Hook:
            def hook(_: Tensor, y: Tensor) -> None:
                y = F.pad(y, (0, 1), value=1.0)
                moments[module] = moments.get(module, y.new_zeros(())) + y.T @ y

            return hook

        _watch({pair.theirs: measured(pair.theirs) for pair in _norms(pairs)}, show)
        total = torch.stack([m / m[-1, -1] for m in moments.values()]).mean(0).cpu()
        project = torch.eye(wide, dtype=torch.float64)
        if width < wide:
            _, directions = torch.linalg.eigh(total[:wide, :wide])
            turn = np.random.default_rng(0).normal(size=(width, width))
            turn[:, 0] = 1.0
            basis = torch.from_numpy(np.linalg.qr(turn)[0])
            project = basis @ directions[:, wide - width :].T
        inner = F.pad(project, (0, 1, 0, 1))
        inner[-1, -1] = 1.0
        moment = inner @ total @ inner.T
        moment += torch.eye(width + 1) * 1e-6 * moment.diagonal().mean()
        return _Reduction(
            student, teacher, project.to(device), torch.linalg.cholesky(moment).to(device)
        )

    def fill(self, pairs: dict[str, _Pair], show: Callable[[], None]) -> None:
        """Fill every module of the student."""
        hooks: dict[nn.Module, Hook] = {}
        finish: list[Callable[[], None]] = []
        for pair in pairs.values():
            if isinstance(pair.mine, nn.Embedding):
                self._table(pair)
            elif isinstance(pair.mine, (Attention, PackedAttention)):
                self._attention(pair)
            elif pair.name.endswith((".img_linear", ".loc_linear", ".obj_linear", "embeddings.0")):
                self._writer(pair)
            elif pair.name.endswith("sprel_linear"):
                _copy({"": pair})
        for pair in _norms(pairs):
            self._norm(pair, hooks, finish)
        for first, second in _feed_forwards(pairs):
            self._feed_forward(first, second, hooks, finish)
        for pair in pairs.values():
            if isinstance(pair.mine, Head) and "og_head" not in pair.name:
                self._head(pair, hooks, finish)
        _watch(hooks, show)
        for step in finish:
            step()

    def _read(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return [W P^T, b], [out, D + 1]."""
        return torch.cat([weight.double() @ self.project.T, bias.double()[:, None]], 1)

    def _table(self, pair: _Pair) -> None:
        assert isinstance(pair.mine, nn.Embedding) and isinstance(pair.theirs, nn.Embedding)
        rows = pair.theirs.weight[: len(pair.mine.weight)].double()
        pair.mine.weight.copy_(rows @ self.project.T)

    def _writer(self, pair: _Pair) -> None:
        mine, theirs = pair.mine, pair.theirs
        assert isinstance(mine, nn.Linear) and isinstance(theirs, nn.Linear)
        mine.weight.copy_(self.project @ theirs.weight.double())
        mine.bias.copy_(self.project @ theirs.bias.double())

    def _attention(self, pair: _Pair) -> None:
        mine, theirs = _maps(pair.mine), _maps(pair.theirs)
        if theirs.weights[0].shape == mine.weights[0].shape and theirs.heads == mine.heads:
            for to, value in zip(mine.tensors(), theirs.tensors(), strict=True):
                to.copy_(value)
            return
        size, wide = (
            mine.weights[0].shape[1] // mine.heads,
            theirs.weights[0].shape[1] // theirs.heads,
        )
        query, key, value = (
            self._read(w, b).view(theirs.heads, wide, -1)
            for w, b in zip(theirs.weights, theirs.biases, strict=True)
        )
        output = (self.project @ theirs.out.weight.double()).view(-1, theirs.heads, wide)
        back = torch.linalg.inv(self.root)
        for number, group in enumerate(np.array_split(np.arange(theirs.heads), mine.heads)):
            part = slice(number * size, (number + 1) * size)
            scores = torch.einsum("heq,hek->qk", query[group], key[group])
            scores *= (size / wide) ** 0.5 / len(group)
            u, s, v = _halves(self.root.T @ scores @ self.root, size)
            mixed = torch.einsum("dhe,hek->dk", output[:, group], value[group])
            left, t, right = _halves(mixed @ self.root, size)
            halves = ((s * u).T @ back, (s * v).T @ back, (t * right).T @ back)
            for to, bias, half in zip(mine.weights, mine.biases, halves, strict=True):
                to[part], bias[part] = half[:, :-1].to(to.dtype), half[:, -1].to(to.dtype)
            mine.out.weight[:, part] = (t * left).to(mine.out.weight.dtype)
        mine.out.bias.copy_(self.project @ theirs.out.bias.double())

    def _norm(
        self, pair: _Pair, hooks: dict[nn.Module, Hook], finish: list[Callable[[], None]]
    ) -> None:
        mine, theirs = pair.mine, pair.theirs
        assert isinstance(mine, nn.LayerNorm) and isinstance(theirs, nn.LayerNorm)
        if mine.weight.shape == theirs.weight.shape:
            _copy({"": pair})
            return
        sums = torch.zeros(5, len(mine.weight), dtype=torch.float64, device=mine.weight.device)

        def hook(x: Tensor, y: Tensor) -> None:
            n = F.layer_norm(x @ self.project.T, mine.normalized_shape, eps=mine.eps)
            t = y @ self.project.T
            for total, value in zip(sums, (n.new_ones(n.shape), n, t, n * n, n * t), strict=True):
                total += value.sum(0)

        def fit() -> None:
            count, n, t, nn_, nt = sums[0], *(sums[1:] / sums[0].clamp(min=1))
            gain = (nt - n * t) / (nn_ - n * n).clamp(min=1e-6)
            if count[0] > 0:
                mine.weight.copy_(gain)
                mine.bias.copy_(t - gain * n)

        hooks[theirs] = _also(hooks.get(theirs), hook)
        finish.append(fit)

    def _feed_forward(
        self,
        first: _Pair,
        second: _Pair,
        hooks: dict[nn.Module, Hook],
        finish: list[Callable[[], None]],
    ) -> None:
        mine, theirs = _linears(first.mine, second.mine), _linears(first.theirs, second.theirs)
        reads = self._read(theirs[0].weight, theirs[0].bias)
        writes = self.project @ theirs[1].weight.double()
        keep = _largest(reads[:, :-1].norm(dim=1) * writes.norm(dim=0), len(mine[0].weight))
        rest = torch.ones(len(reads), dtype=torch.bool, device=reads.device)
        rest[keep] = False
        total = torch.zeros(len(reads) + 1, dtype=torch.float64, device=reads.device)

        def hook(x: Tensor, _: Tensor) -> None:
            total.add_(F.pad(x, (0, 1), value=1.0).sum(0))

        def fit() -> None:
            mean = total[:-1] / total[-1].clamp(min=1)
            mine[0].weight.copy_(reads[keep, :-1])
            mine[0].bias.copy_(reads[keep, -1])
            mine[1].weight.copy_(writes[:, keep])
            bias = self.project @ theirs[1].bias.double()
            mine[1].bias.copy_(bias + writes[:, rest] @ mean[rest])

        hooks[theirs[1]] = _also(hooks.get(theirs[1]), hook)
        finish.append(fit)

    def _head(
        self, pair: _Pair, hooks: dict[nn.Module, Hook], finish: list[Callable[[], None]]
    ) -> None:
        (first, norm, last), theirs = _parts(pair.mine), _parts(pair.theirs)
        if first.weight.shape == theirs[0].weight.shape:
            pair.mine.load_state_dict(pair.theirs.state_dict())
            return
        times = theirs[0].in_features // self.teacher.hidden_size
        parts = theirs[0].weight.double().chunk(times, 1)
        reads = torch.cat([part @ self.project.T for part in parts], 1)
        strength = reads.norm(dim=1) * (theirs[1].weight * theirs[2].weight[0]).double().abs()
        keep = _largest(strength, len(first.weight))
        first.weight.copy_(reads[keep])
        first.bias.copy_(theirs[0].bias[keep])
        seen: list[Tensor] = []
        told: list[Tensor] = []

        def hook(x: Tensor, y: Tensor) -> None:
            given = torch.cat([part @ self.project.T for part in x.chunk(times, 1)], 1)
            hidden = F.relu(given @ reads[keep].T + theirs[0].bias[keep].double())
            n = F.layer_norm(hidden, norm.normalized_shape, eps=norm.eps)
            seen.append(F.pad(n, (0, 1), value=1.0))
            told.append(y)

        def fit() -> None:
            a, b = torch.cat(seen), torch.cat(told)
            gram = a.T @ a
            ridge = torch.eye(len(gram), device=a.device) * 1e-3 * gram.diagonal().mean()
            found = torch.linalg.solve(gram + ridge, a.T @ b)[:, 0]
            norm.reset_parameters()
            last.weight.copy_(found[None, :-1])
            last.bias.copy_(found[-1:])

        hooks[pair.theirs] = hook
        finish.append(fit)


@dataclass(frozen=True)
class _Maps:
    """Weights and biases of queries, keys, values (views), and the output linear."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    out: nn.Linear
    heads: int

    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.weights, *self.biases, self.out.weight, self.out.bias)


def _maps(module: nn.Module) -> _Maps:
    if isinstance(module, PackedAttention):
        weights, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
        return _Maps(weights, biases, module.out_proj, module.heads)
    assert isinstance(module, Attention)
    maps = module.projections
    three = (maps.query, maps.key, maps.value)
    return _Maps(
        tuple(m.weight for m in three),
        tuple(m.bias for m in three),
        module.output.dense,
        maps.heads,
    )


def _linears(first: nn.Module, second: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    return first, second


def _parts(head: nn.Module) -> tuple[nn.Linear, nn.LayerNorm, nn.Linear]:
    """Hidden linear, norm and last linear of a head."""
    assert isinstance(head, Head)
    first, norm, last = head.net[0], head.net[2], head.net[3]
    assert isinstance(norm, nn.LayerNorm)
    first, last = _linears(first, last)
    return first, norm, last


def _norms(pairs: dict[str, _Pair]) -> list[_Pair]:
    """LayerNorms of hidden states; those inside heads are none."""
    return [p for p in pairs.values() if isinstance(p.mine, nn.LayerNorm) and ".net." not in p.name]


def _feed_forwards(pairs: dict[str, _Pair]) -> list[tuple[_Pair, _Pair]]:
    found = []
    for name, pair in pairs.items():
        for first, second in _FEED_FORWARD:
            if name.endswith(f".{first}"):
                found.append((pair, pairs[name.removesuffix(first) + second]))
    return found


def _largest(strength: Tensor, count: int) -> Tensor:
    return strength.topk(count).indices.sort().values


def _halves(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, sqrt(S), V of the best approximation U S V^T of a rank."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], s[:rank].sqrt(), v[:rank].T


def _also(before: Hook | None, hook: Hook) -> Hook:
    """Return a hook that does both: several blocks may follow one."""
    if before is None:
        return hook

    def both(x: Tensor, y: Tensor) -> None:
        before(x, y)
        hook(x, y)

    return both
