"""Both stages on a stack of a few lines: targets by sample, learning to skip, exact resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sterna.actdistill.distill import (
    DistillTask,
    Live,
    RouteConfig,
    Stored,
    inherit_heads,
    stream_map,
)
from sterna.actdistill.gates import measure_costs
from sterna.actdistill.graph import GraphConfig, GraphHeads
from sterna.actdistill.losses import LossConfig, Targets, distillation, last_step
from sterna.actdistill.probe import ProbeTask, write_targets
from sterna.actdistill.router import Router, RouterConfig, calibrate, router_logits
from sterna.actdistill.stack import Tokens, everything, gated, static
from sterna.actdistill.stages import Drawn, StageRunner, grouped
from sterna.actdistill.targets import TargetStore
from sterna.actdistill.tuning import merge, student_of
from sterna.errors import InputError
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig

GRAPH = GraphConfig(width=8, size=6, heads=2, neighbours=2)
OPTIONS = OptimizerConfig(learning_rate=1e-2, clip_norm=1.0)


def loop(iterations: int, **more: Any) -> LoopConfig:
    values = {"batch_size": 16, "save_every": 4, "eval_every": iterations, "select_by": "last"}
    return LoopConfig(iterations=iterations, **values | more)


def probed(stack: Any, samples: Any, folder: Path, iterations: int = 30) -> ProbeTask:
    torch.manual_seed(0)
    task = ProbeTask(stack, GRAPH)
    StageRunner(task, samples, folder / "probe", loop(iterations), OPTIONS).run()
    return task


def distilled(stack: Any, probe: ProbeTask, store: TargetStore, **how: Any) -> DistillTask:
    torch.manual_seed(1)
    student = student_of(stack, how.pop("tune", "full"))
    heads = GraphHeads(student, GRAPH)
    inherit_heads(heads, probe.heads, range(len(stack.units)))
    route = how.pop("route", RouteConfig(rho=0.5))
    router = Router(student, RouterConfig(width=8))
    return DistillTask(
        student, heads, Stored(store, stack), LossConfig(), route, router=router, **how
    )


def test_a_probe_learns_and_its_targets_are_found_by_sample(
    line: Any, lines: Any, tmp_path: Path
) -> None:
    before = [p.clone() for p in line.parameters()]
    task = probed(line, lines, tmp_path, 16)
    rows = (tmp_path / "probe" / "log.jsonl").read_text().splitlines()
    assert rows
    fresh = ProbeTask(line, GRAPH)
    drawn = Drawn(lines.batch(range(48)), tuple(lines.ids), 1.0)
    assert float(task(drawn).loss.detach()) < 0.9 * float(fresh(drawn).loss.detach())
    assert all(torch.equal(a, b) for a, b in zip(before, line.parameters(), strict=True))
    store = write_targets(task.teacher, lines, tmp_path / "targets", batch_size=10)
    shuffled = [40, 3, 17, 25]
    found = store.read(line, [lines.ids[i] for i in shuffled], lines.batch(shuffled), {})
    live = task.teacher.signals(lines.batch(shuffled))
    for unit in range(6):
        torch.testing.assert_close(found.semantic[unit], live.semantic[unit])
        torch.testing.assert_close(found.action[unit], live.action[unit])


def test_targets_that_are_not_there_are_refused(line: Any, lines: Any, tmp_path: Path) -> None:
    task = ProbeTask(line, GRAPH)
    with pytest.raises(InputError, match="no targets there"):
        TargetStore(tmp_path / "targets")
    store = write_targets(task.teacher, lines, tmp_path / "targets")
    with pytest.raises(InputError, match="no targets for sample 'new'"):
        store.read(line, ["new", lines.ids[0]], lines.batch([0, 1]), {})
    with pytest.raises(InputError, match="probe this teacher"):
        store.check(line.pruned([0, 1]), lines.ids)
    file = tmp_path / "targets" / "action_03.f32"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"action_03\.f32 is not whole"):
        TargetStore(tmp_path / "targets")
    file.unlink()
    with pytest.raises(InputError, match="missing or not whole"):
        TargetStore(tmp_path / "targets")


def test_the_student_keeps_to_its_budget_and_skips_what_is_idle(
    line: Any, lines: Any, tmp_path: Path
) -> None:
    """Layers 2, 3 and 4 do nothing: with half the budget they are the ones to go."""
    with torch.no_grad():
        for idle in (2, 3, 4):
            line.blocks[idle].weight.zero_()
    learnt = StageRunner(_Own(line), lines, tmp_path / "t", loop(40), OPTIONS)
    for idle in (2, 3, 4):
        line.blocks[idle].weight.requires_grad_(False)
    learnt.run()
    probe = probed(line, lines, tmp_path, 8)
    store = write_targets(probe.teacher, lines, tmp_path / "targets")
    task = distilled(line, probe, store, tune="none")
    runner = StageRunner(
        task, lines, tmp_path / "s", loop(70), replace(OPTIONS, learning_rate=5e-3),
        rates=(("router.", 5.0),),
    )  # fmt: skip
    runner.run()
    batches = [lines.batch(range(48))]
    router = task.router
    assert router is not None
    router.eval()
    costs = measure_costs(line, batches)
    threshold = calibrate(router_logits(task.stack, router, batches), [range(6)], costs, 0.5)
    passed = gated(task.stack, batches[0], router.decide(threshold), skip=True, costs=True)
    assert 0.3 < float(passed.spent(task.stack)) <= 0.5 + 1e-6
    open_ = passed.gates[0].mean(0)
    assert float(open_[[2, 3, 4]].mean()) < 0.2 < 0.6 < float(open_[[0, 1, 5]].mean())
    with torch.no_grad():
        routed = line.loss(line.finish(passed.state), batches[0])
        first = gated(line, batches[0], static(line, [0, 1, 2]), skip=True)
        truncated = line.loss(line.finish(first.state), batches[0])
        whole = line.loss(line.finish(gated(line, batches[0], everything(line), skip=True).state),
                          batches[0])  # fmt: skip
    assert float(routed) < float(truncated) and float(routed) < 1.3 * float(whole) + 1e-3


class _Own(torch.nn.Module):
    """The stack learns its own task."""

    def __init__(self, stack: Any) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, drawn: Drawn) -> Any:
        from sterna.train.task import TaskOutput

        passed = gated(self.stack, drawn.batch, everything(self.stack), skip=False)
        loss = self.stack.loss(self.stack.finish(passed.state), drawn.batch)
        return TaskOutput(loss, {"agree": 0.0, "rows": 1.0})


@pytest.mark.parametrize(
    "route",
    [RouteConfig(rho=0.5), RouteConfig(gate="topk", rho=0.6), RouteConfig(lowest=0.4)],
    ids=["concat", "topk", "many budgets"],
)
def test_a_stopped_run_goes_on_bit_for_bit(
    line: Any, lines: Any, tmp_path: Path, route: RouteConfig
) -> None:
    probe = ProbeTask(line, GRAPH)
    store = write_targets(probe.teacher, lines, tmp_path / "targets")
    states = []
    for stops in ((8,), (4, 8)):
        folder = tmp_path / f"run{len(stops)}"
        for stop in stops:
            task = distilled(line, probe, store, route=route, average=0.5)
            options = replace(OPTIONS, kind="muon")
            runner = StageRunner(task, lines, folder, loop(8), options, rates=(("router.", 3.0),))
            while runner.progress.iteration < stop:
                runner.step(runner.progress.iteration)
                runner.progress.iteration += 1
            runner._save()
        states.append(task.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_is_kept_is_the_mean_of_the_weights(line: Any, lines: Any, tmp_path: Path) -> None:
    probe = ProbeTask(line, GRAPH)
    store = write_targets(probe.teacher, lines, tmp_path / "targets")
    task = distilled(line, probe, store, average=0.5)
    runner = StageRunner(task, lines, tmp_path / "run", loop(6), OPTIONS)

    def weights(parts: Any) -> list[torch.Tensor]:
        return [p.detach().clone() for part in parts for p in part.parameters()]

    expected = weights((task.stack, task.router))
    for iteration in range(6):
        runner.step(iteration)
        decay = min(0.5, (1 + iteration) / (10 + iteration))
        own = weights((task.stack, task.router))
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected, own, strict=True)]
    for mine, wanted in zip(weights(task.learnt), expected, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-7)
    plain = distilled(line, probe, store)
    assert plain.learnt == (plain.stack, plain.router)


def test_low_rank_updates_learn_alone_and_merge(line: Any) -> None:
    student = student_of(line, "lora", rank=2)
    x = torch.randn(2, 5, 8)
    assert torch.equal(student.blocks[1](x), line.blocks[1](x))
    learning = [n for n, p in student.named_parameters() if p.requires_grad]
    assert learning and all(n.endswith((".a", ".b")) for n in learning)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name.endswith(".b"):
                parameter.normal_()
    tuned = student.blocks[1](x)
    assert not torch.equal(tuned, line.blocks[1](x))
    merge(student)
    torch.testing.assert_close(student.blocks[1](x), tuned)
    assert student.state_dict().keys() == line.state_dict().keys()
    nothing = student_of(line, "none")
    assert not any(p.requires_grad for p in nothing.parameters())


def test_a_smaller_student_follows_mapped_units(line: Any, lines: Any, tmp_path: Path) -> None:
    small = line.pruned([0, 2, 5])
    assert stream_map(line, small) == (1, 3, 5)
    with pytest.raises(InputError, match="at most as many"):
        stream_map(small, line)
    probe = probed(line, lines, tmp_path, 8)
    store = write_targets(probe.teacher, lines, tmp_path / "targets")
    heads = GraphHeads(small, GRAPH)
    inherit_heads(heads, probe.heads, (1, 3, 5))
    assert torch.equal(heads.graphs[1].down.weight, probe.heads.graphs[3].down.weight)
    task = DistillTask(
        small, heads, Stored(store, line), LossConfig(),
        RouteConfig(gate="fixed", keep=(0, 1, 2)), units=(1, 3, 5),
    )  # fmt: skip
    drawn = Drawn(lines.batch(range(48)), tuple(lines.ids), 1.0)
    before = float(task(drawn).loss.detach())
    runner = StageRunner(task, lines, tmp_path / "s", loop(20), OPTIONS)
    runner.run()
    output = task(drawn)
    assert output.metrics["spent"] == 1 and float(output.loss.detach()) < 0.9 * before


def test_stored_targets_are_the_live_ones(line: Any, lines: Any, tmp_path: Path) -> None:
    probe = ProbeTask(line, GRAPH)
    store = write_targets(probe.teacher, lines, tmp_path / "targets")
    drawn = Drawn(lines.batch([5, 1, 9]), tuple(lines.ids[i] for i in (5, 1, 9)), 1.0)
    stored = Stored(store, line).targets(drawn, {})
    live = Live(probe.teacher).targets(drawn, {})
    for unit in range(6):
        torch.testing.assert_close(stored.action[unit], live.action[unit])


def test_a_batch_can_have_a_budget_of_its_own(line: Any) -> None:
    task = DistillTask(
        line, GraphHeads(line, GRAPH), Live(ProbeTask(line, GRAPH).teacher), LossConfig(),
        RouteConfig(lowest=0.3), router=Router(line, RouterConfig()), costs=(1, 1, 2, 2, 3, 3),
    )  # fmt: skip
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    for rho in (0.3, 0.55, 0.9):
        open_ = (logits > task._level(logits, 0, rho)).float()
        open_[:, 0] = 1
        spent = float((open_.mean(0) * torch.tensor([1, 1, 2, 2, 3, 3])).sum()) / 12
        assert rho - 0.01 < spent <= rho + 1e-6
    assert task._level(logits, 0, 0.01) > float(logits.max())
    assert task._level(logits, 0, 1.0) < float(logits.min())


def test_the_released_variant_trains_as_the_release_does(line: Any, lines: Any) -> None:
    """Soft gates that scale the stream, one step of a chunk, balance in the budget's place."""
    kind = last_step(line.kind)
    probe = ProbeTask(line, GRAPH, kind=kind)
    heads = GraphHeads(line, GRAPH, kind)
    inherit_heads(heads, probe.heads, range(6))
    router = Router(line, RouterConfig(width=8, dropout=0.0))
    config = LossConfig(variant="paper", balance=0.3)
    task = DistillTask(line, heads, Live(probe.teacher), config, RouteConfig(), router=router)
    task.eval()
    drawn = Drawn(lines.batch(range(8)), tuple(lines.ids[:8]), 0.0)
    output = task(drawn)
    with torch.no_grad():
        batch = drawn.batch
        gates = router.logits(0, line.router_input(batch, 0)).sigmoid()
        x = batch.x
        tokens = {}
        for unit in range(6):
            x = gates[:, unit, None, None] * (x + line.blocks[unit](x.tanh()))
            tokens[unit] = Tokens(x, batch.mask)
        mine, theirs = heads(tokens), probe.teacher.signals(batch)
        truth = dict.fromkeys(range(6), batch.truth[:, -1:])
        follow, _ = distillation(line, kind, mine, Targets(theirs, truth), config)
        own = line.loss(line.finish(replace(batch, x=x)), batch)
        mean = gates.mean(0)
        whole = own + follow + 0.3 * ((mean - mean.mean()) ** 2).mean()
    assert float(output.loss.detach()) == pytest.approx(float(whole), rel=1e-5)


def test_rates_of_parts(line: Any) -> None:
    task = torch.nn.ModuleDict({"stack": line, "router": torch.nn.Linear(2, 2)})
    made = grouped(task, OPTIONS, (("router.", 10.0),))
    sizes = {g["factor"]: sum(p.numel() for p in g["params"]) for g in made.param_groups}
    assert sizes == {1.0: sum(p.numel() for p in line.parameters()), 10.0: 6}
    muon = grouped(task, replace(OPTIONS, kind="muon"), (("router.", 10.0),))
    kinds = [(g["factor"], "muon" in g, {p.ndim for p in g["params"]}) for g in muon.param_groups]
    assert kinds == [(1.0, False, {1}), (1.0, True, {2}), (10.0, False, {1, 2})]
    calm = grouped(task, replace(OPTIONS, decay_vectors=False), (("router.", 10.0),))
    for group in calm.param_groups:
        decays = group["weight_decay"] > 0
        assert {p.ndim for p in group["params"]} == ({2} if decays else {1})


def test_what_the_stages_refuse(line: Any, lines: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="belongs to imitation"):
        StageRunner(ProbeTask(line, GRAPH), lines, tmp_path, loop(2, replay=1), OPTIONS)
    with pytest.raises(InputError, match="units to keep"):
        RouteConfig(gate="fixed")
    with pytest.raises(InputError, match="shapes of the probe's"):
        inherit_heads(GraphHeads(line, replace(GRAPH, size=7)), GraphHeads(line, GRAPH), range(6))
    with pytest.raises(InputError, match="gate concat alone"):
        DistillTask(
            line, GraphHeads(line, GRAPH), Live(ProbeTask(line, GRAPH).teacher),
            LossConfig(variant="paper"), RouteConfig(gate="topk"),
            router=Router(line, RouterConfig()),
        )  # fmt: skip
