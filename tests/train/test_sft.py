"""Fine-tuning: the loss against NumPy, learning, exact resume, two processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="fine-tuning needs transformers: sterna[vlm]")

from sterna.data.ego.joined import JoinedStore
from sterna.data.ego.samples import EgoSamples
from sterna.errors import InputError
from sterna.models.navigator.folder import load
from sterna.models.navigator.processor import IGNORED
from sterna.models.navigator.sources import JoinedImages, SeenFrames, StoreFrames
from sterna.recipes.sft import prepare_sft, run_sft
from sterna.train.sft import (
    SftTask,
    Weighed,
    answer_loss,
    first_right,
    image_counts,
    judge,
    numbers_of,
    question_batch,
)
from toy_navigator import FAMILIES, samples, tiny
from toy_sft import COLOURS, toy_run, toy_runner, toy_store

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("walks") / "train", walks=6)


def test_the_loss_is_that_of_answer_tokens_alone():
    """Against NumPy; and nothing before the answer has any say in the labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 7)).astype(np.float32)
    targets = np.array([[-100, 2, 3, 1], [4, 4, 0, 1], [-100, -100, 6, 1]])
    wanted = 0.0
    for row, column in zip(*np.nonzero(targets != IGNORED), strict=True):
        scores = logits[row, column].astype(np.float64)
        wanted -= scores[targets[row, column]] - np.log(np.exp(scores).sum())
    found = answer_loss(torch.from_numpy(logits), torch.from_numpy(targets))
    assert float(found.sum()) == pytest.approx(wanted, rel=1e-5)
    assert found[0, 0] == 0
    right = np.array([logits[r, c].argmax() == targets[r, c] for r, c in ((0, 1), (1, 0), (2, 2))])
    assert (
        first_right(torch.from_numpy(logits), torch.from_numpy(targets)).tolist() == right.tolist()
    )


def test_pieces_add_up_to_the_whole_batch():
    """The gradient of a batch is that of its pieces together, whatever their lengths."""
    navigator = tiny()
    given, frames = samples(6)
    answers = [navigator.wording.answer(a) for a in np.random.default_rng(0).integers(0, 4, (6, 3))]
    counts = [len(s.history) + 1 for s in given]

    def gradient(cuts):
        navigator.zero_grad()
        for low, high in cuts:
            first, last = sum(counts[:low]), sum(counts[:high])
            batch = navigator.batch(
                given[low:high], (32, 32), frames=frames[first:last], answers=answers[low:high]
            )
            SftTask(navigator)(Weighed(batch, 1 / 24)).loss.backward()
        return torch.cat([p.grad.flatten() for p in navigator.parameters() if p.grad is not None])

    whole, parts = gradient([(0, 6)]), gradient([(0, 2), (2, 5), (5, 6)])
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(whole, parts, atol=2e-6, rtol=1e-4)


def test_target_zero_is_the_action_taken_from_the_current_frame(walks):
    """Trap 21: a frame's colour is that of its own action, and the first told action is that."""
    given = EgoSamples(walks, 3)
    navigator = tiny()
    batch = question_batch(navigator, given[:], StoreFrames(walks), answered=True)
    targets = navigator.targets(batch)
    words = [navigator.processor.text_ids(word)[0] for word in navigator.wording.texts]
    current = batch.frames[~batch.encoded.past.numpy()].mean((1, 2))
    shown = np.abs(current[:, None] - COLOURS).sum(-1).argmin(1)
    assert [words[action] for action in shown] == targets[:, 0].tolist()
    assert [sample.actions[0] for sample in given] == shown.tolist()


def test_images_are_counted_without_making_samples(walks):
    for stride, budget in ((1, 4), (3, 2)):
        given = EgoSamples(walks, 3, budget=budget, stride=stride)
        assert image_counts(given).tolist() == [len(s.history) + 1 for s in given]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_navigator_learns_its_walks_by_heart(family, walks, tmp_path):
    config = toy_run(walks.folder, 70, family=family, batch_size=16, log_every=10)
    config = replace(config, walks=replace(config.walks, held_out=walks.folder))
    run_sft(config, tmp_path)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    judged = [e for e in entries if e["kind"] == "select"]
    assert judged[-1]["first"] == 1.0 and judged[-1]["whole"] > 0.7
    assert judged[-1]["nll"] < 0.2 * judged[0]["nll"]
    train = [e for e in entries if e["kind"] == "train"]
    assert {"loss", "norm", "rate", "agree", "wait", "samples_per_second"} <= train[-1].keys()
    assert train[0]["rate"] > train[-1]["rate"]
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["config"]["optimizer"]["warmup"] == 7 and run["iteration"] == 70
    kept = load(tmp_path / "last")
    given = EgoSamples(walks, 3, budget=4)[:8]
    batch = question_batch(kept, given, StoreFrames(walks), answered=False)
    wanted = [kept.wording.answer(sample.actions) for sample in given]
    told = kept.generate(batch)
    assert np.mean([a == b for a, b in zip(told, wanted, strict=True)]) > 0.6
    for text in kept.generate(batch, constrained=True):
        assert kept.wording.parse(text) is not None


def test_a_frozen_tower_sees_every_frame_once(walks, tmp_path, monkeypatch):
    navigator = tiny()
    for weight in navigator.tower.parameters():
        weight.requires_grad_(False)
    images = SeenFrames(navigator, walks, tmp_path)
    numbers = np.array([3, 0, 3])
    with torch.no_grad():
        fresh = navigator.features(StoreFrames(walks).take(numbers)["frames"])
    torch.testing.assert_close(images.take(numbers)["features"], fresh, atol=5e-3, rtol=2e-3)
    monkeypatch.setattr(navigator, "features", None)  # the second time nothing is looked at
    again = SeenFrames(navigator, walks, tmp_path)
    assert torch.equal(again.take(numbers)["features"], images.take(numbers)["features"])
    assert len(list(tmp_path.iterdir())) == 1
    other = tiny(seed=1)
    SeenFrames(other, walks, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_blind_samples_show_black_frames(walks, tmp_path):
    navigator = tiny()
    frames = StoreFrames(walks, blind=True).take(np.array([0, 1]))["frames"]
    assert frames.shape == (2, 32, 32, 3) and not frames.any()
    seen = SeenFrames(navigator, walks, tmp_path, blind=True).take(np.array([0, 5]))["features"]
    with torch.no_grad():
        torch.testing.assert_close(seen, navigator.features(frames), atol=5e-3, rtol=2e-3)


def state(folder):
    content = torch.load(folder / "state.pt", weights_only=True)
    content["progress"] = {
        k: v for k, v in json.loads(content["progress"]).items() if k != "seconds"
    }
    return content


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


class StoppedError(Exception):
    """The machine went away."""


@pytest.mark.parametrize("tower", ["frozen", "tuned"])
def test_ten_and_ten_are_twenty(walks, tmp_path, tower):
    """Stopped at 13, saved at 10: the second run does 10 to 19 again, bit for bit."""
    toy_runner(walks.folder, tmp_path / "a", tower=tower).run()
    broken = toy_runner(walks.folder, tmp_path / "b", tower=tower)
    iterate = broken.step

    def failing(number):
        if number == 13:
            raise StoppedError
        return iterate(number)

    broken.step = failing
    with pytest.raises(StoppedError):
        broken.run()
    resumed = toy_runner(walks.folder, tmp_path / "b", tower=tower)
    assert resumed.progress.iteration == 10
    resumed.run()
    assert same(state(tmp_path / "a"), state(tmp_path / "b"))
    with pytest.raises(InputError, match="another configuration"):
        toy_runner(walks.folder, tmp_path / "b", tower=tower, seed=1)


def test_a_killed_run_goes_on_bit_for_bit(walks, tmp_path):
    """SIGKILL behind the first saved state; the same command then ends as if nothing had been."""
    config = toy_run(walks.folder, 60)
    config = replace(config, optimizer=replace(config.optimizer, epsilon=1e-3))
    prepare_sft(config, tmp_path / "a").runner.run()
    with program(walks.folder, tmp_path / "b", "60") as killed:
        while killed.poll() is None and not (tmp_path / "b/state.pt").is_file():
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    runner = prepare_sft(config, tmp_path / "b").runner
    assert 10 <= runner.progress.iteration < 60
    runner.run()
    assert same(state(tmp_path / "a"), state(tmp_path / "b"))


def test_several_folders_are_learnt_from_as_one(walks, tmp_path):
    other = toy_store(tmp_path / "other", walks=3, seed=5)
    joined = JoinedStore([walks, other])
    given = EgoSamples(joined, 3)
    images = JoinedImages([StoreFrames(walks), StoreFrames(other)], joined.starts)
    parts = [(EgoSamples(store, 3), StoreFrames(store)) for store in (walks, other)]
    single = [(s, frames) for samples_, frames in parts for s in samples_[:]]
    assert len(given) == len(single)
    for one, (alone, frames) in zip(given[:], single, strict=True):
        assert np.array_equal(
            images.take(numbers_of([one]))["frames"], frames.take(numbers_of([alone]))["frames"]
        )
        assert one.actions.tolist() == alone.actions.tolist()
    mixed = np.array([given[len(single) - 1].current, 0, given[len(single) - 2].current, 1])
    wanted = [images.take(mixed[i : i + 1])["frames"][0] for i in range(4)]
    assert np.array_equal(images.take(mixed)["frames"], np.stack(wanted))
    config = toy_run(walks.folder, 2)
    config = replace(config, walks=replace(config.walks, more=(other.folder,)))
    assert len(prepare_sft(config, tmp_path / "run").samples) == len(single)


def program(walks, out, *more, rank=0, world=1, port=0):
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    if world > 1:
        environment |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "ACCELERATE_USE_CPU": "true",
        }
    code = [sys.executable, str(TESTS / "toy_sft.py"), str(walks), str(out), *more]
    return subprocess.Popen(
        code, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def ended(process):
    _, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors.decode()[-3000:]


def test_two_processes_do_what_one_does(walks, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [
        program(walks.folder, tmp_path / "two", "5", "tuned", rank=rank, world=2, port=port)
        for rank in (0, 1)
    ]
    ended(program(walks.folder, tmp_path / "one", "5", "tuned"))
    for process in both:
        ended(process)
    one, two = (state(tmp_path / name)["modules"]["task"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    moved = 0.0
    fresh = toy_runner(walks.folder, tmp_path / "fresh", tower="tuned").learner.state_dict()
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], atol=1e-5, rtol=1e-5)
        moved = max(moved, float((weight - fresh[name]).abs().max()))
    assert moved > 1e-3, "the test should train something"


def test_judging_leaves_no_trace_and_needs_no_batch_size(walks):
    navigator = tiny()
    given, images = EgoSamples(walks, 3)[:7], StoreFrames(walks)
    navigator.train()
    scores = judge(navigator, given, images, at_once=3)
    assert navigator.training
    assert scores == pytest.approx(judge(navigator, given, images), rel=1e-5)
    assert scores["nll"] > 1.0 and 0 <= scores["whole"] <= scores["first"] <= 1


def test_what_cannot_be_is_refused(walks, tmp_path):
    config = toy_run(walks.folder)
    with pytest.raises(InputError, match="select_by must be last"):
        replace(config, loop=replace(config.loop, select_by="SPL"))
    with pytest.raises(InputError, match=r"no ego\.json there"):
        prepare_sft(replace(config, walks=replace(config.walks, train=tmp_path)), tmp_path / "o")
    lonely = replace(config, model=replace(config.model, name=str(tmp_path / "nothing"),
                                           local_files_only=True))  # fmt: skip
    with pytest.raises(InputError, match="not a folder, and not to be had"):
        prepare_sft(lonely, tmp_path / "o")
