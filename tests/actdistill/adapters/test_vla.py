"""The contract of the small policy as a stack."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import contract
from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.stack import act, everything, gated, stack_of, static
from sterna.errors import InputError
from sterna.models.vla import Vla, VlaBatch, VlaConfig

CONFIG = VlaConfig(
    words=("open", "the", "door"), image_size=48, depth=4, width=32, heads=2, ffn=64, chunk=3
)


def make_batch(rows: int = 5) -> VlaBatch:
    made = torch.Generator().manual_seed(3)
    return VlaBatch(
        images=torch.randint(0, 256, (rows, 1, 48, 48, 3), generator=made, dtype=torch.uint8),
        words=CONFIG.read(["open the door"] * rows),
        proprio=torch.randn(rows, 4, generator=made),
        recent=torch.randn(rows, 12, generator=made),
        actions=torch.randn(rows, 3, 4, generator=made),
    )


@pytest.fixture
def stack() -> VlaStack:
    torch.manual_seed(0)
    found = stack_of(Vla(CONFIG))
    assert isinstance(found, VlaStack)
    return found.eval()


def test_the_contract(stack: VlaStack) -> None:
    contract.check(stack, make_batch(), lambda features: [stack.model.head(features)])


@torch.no_grad()
def test_all_gates_one_is_the_teacher_bit_for_bit(stack: VlaStack) -> None:
    batch = make_batch()
    expected = stack.model(batch)
    actions, gates = act(stack, batch, everything(stack))
    assert torch.equal(actions, expected)
    assert gates[0].shape == (5, 4) and bool((gates[0] == 1).all())
    blended = gated(stack, stack.prepare(batch), everything(stack), skip=False)
    assert torch.equal(stack.model.head(stack.finish(blended.state)), expected)


@torch.no_grad()
@pytest.mark.parametrize("keep", [(0, 2), (0, 1, 3), (0,)])
def test_hard_gates_are_the_pruned_model(stack: VlaStack, keep: tuple[int, ...]) -> None:
    batch = make_batch()
    small = stack.pruned(keep)
    assert len(small.units) == len(keep) and small.model.config.depth == len(keep)
    actions, _ = act(stack, batch, static(stack, keep))
    assert torch.equal(actions, small.model(batch))
    assert not torch.equal(actions, stack.model(batch))


@torch.no_grad()
def test_rows_may_differ_in_their_gates(stack: VlaStack) -> None:
    batch = make_batch(3)
    gates = torch.tensor([[1.0, 1, 0, 1], [1.0, 0, 0, 0], [1.0, 1, 1, 1]])
    actions, _ = act(stack, batch, lambda phase, seen: gates)
    for row, keep in enumerate([(0, 1, 3), (0,), (0, 1, 2, 3)]):
        one = VlaBatch(**{k: v[row : row + 1] for k, v in vars(batch).items() if v is not None})
        alone = stack.pruned(keep).model(one)[0]
        assert torch.allclose(actions[row], alone, atol=1e-6)


@torch.no_grad()
def test_the_first_layer_stays(stack: VlaStack) -> None:
    assert stack.units[0].fixed and not any(unit.fixed for unit in stack.units[1:])
    batch = make_batch()
    without, _ = act(stack, batch, static(stack, (1,)))
    assert torch.equal(without, act(stack, batch, static(stack, (0, 1)))[0])
    with pytest.raises(InputError, match="always runs"):
        stack.pruned((1,))


@torch.no_grad()
def test_cost_is_what_is_counted(stack: VlaStack) -> None:
    state = stack.prepare(make_batch())
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        stack.run(1, state)
    assert stack.cost(1, state) == pytest.approx(counter.get_total_flops(), rel=0.01)
    saved = [gated(stack, state, static(stack, k), skip=True, costs=True) for k in [(0,), range(4)]]
    assert saved[0].spent(stack) == pytest.approx(0.25) and saved[1].spent(stack) == 1.0


def test_what_the_router_sees(stack: VlaStack) -> None:
    batch = make_batch()
    seen = stack.router_input(stack.prepare(batch), 0)
    assert seen.vision.shape == (5, 4, 32) and seen.text.shape == (5, 2, 32)
    assert torch.equal(seen.recent, batch.recent) and bool(seen.vision_mask.all())
    other = stack.router_input(stack.prepare(make_batch()), 0)
    assert torch.equal(seen.vision, other.vision)


def test_gradients_reach_gates_and_layers(stack: VlaStack) -> None:
    batch = make_batch()
    gates = torch.full((5, 4), 0.5, requires_grad=True)
    passed = gated(stack, stack.prepare(batch), lambda phase, seen: gates, skip=False, keep=True)
    stack.loss(stack.finish(passed.state), batch).backward()
    assert gates.grad is not None and bool((gates.grad.abs().sum(0) > 0).all())
    assert all(p.grad is not None for layer in stack.model.layers for p in layer.parameters())
    assert len(passed.tokens) == 4 and passed.tokens[3].x.shape == (5, CONFIG.tokens, 32)


def test_a_pruned_copy_shares_nothing(stack: VlaStack) -> None:
    small = stack.pruned((0, 3))
    with torch.no_grad():
        small.model.layers[1].narrow.weight.add_(1.0)
        small.model.act_head.weight.add_(1.0)
    theirs = stack.model.layers[3].narrow.weight
    assert not torch.equal(theirs, small.model.layers[1].narrow.weight)
    assert not torch.equal(stack.model.act_head.weight, small.model.act_head.weight)


def test_bad_units_and_batches_are_named(stack: VlaStack) -> None:
    with pytest.raises(InputError, match="below 4"):
        stack.pruned((0, 7))
    batch = make_batch()
    bare = VlaBatch(**{**vars(batch), "actions": None})
    with pytest.raises(InputError, match="no actions"):
        stack.truth(0, bare, stack.prepare(batch))
