"""One episode as a picture: from a trajectory file, from a policy that walks it now, or bare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.errors import InputError
from sterna.metrics import Prediction, read_submission, renamed, score_predictions
from sterna.recipes.answers import Task, read_answers
from sterna.recipes.config import DataConfig
from sterna.recipes.policies import check_fit, data_config, open_policy
from sterna.recipes.runs import protocol_of
from sterna.recipes.world import World
from sterna.show import draw_episode
from sterna.train.evaluate import evaluate
from sterna.world.graph import load_graph


def show_episode(
    root: Path,
    name: str,
    split: str,
    out: Sequence[Path],
    *,
    task: Task = "r2r",
    walk: Path | None = None,
    policy: Path | None = None,
) -> list[Path]:
    """Draw episode `name` of a split into every file of `out` (.png or .svg); return the files.

    `walk` takes its path from a trajectory file, `policy` lets a saved policy walk it. Raises
    `InputError` for an episode that the split or the file does not hold.
    """
    if walk is not None and policy is not None:
        raise InputError("show: give --walk or --policy, not both")
    layout = Layout(root)
    episodes = read_answers(layout, task, split)
    episode = _find(episodes, name, split)
    prediction = None
    if walk is not None:
        prediction = _find_prediction(walk, episodes, name)
    elif policy is not None:
        prediction = _walk_now(root, episode, policy, task)
    scores, hops = None, None
    if prediction is not None:
        hops = [list(hop) for hop in prediction.hops]
        if episode.answered:
            rule = protocol_of(DataConfig(task=task))
            result = score_predictions([prediction], [episode], layout.connectivity, rule)
            shown = [key for key in ("NE", "SR", "SPL", "GP", "RGS") if key in result.scores]
            scores = {key: f"{result.scores[key].mean:.2f}" for key in shown}
    graph = load_graph(layout.connectivity, episode.scan)
    return [draw_episode(graph, episode, hops, file, scores) for file in out]


def _find(episodes: Sequence[Episode], name: str, split: str) -> Episode:
    for episode in episodes:
        if episode.instr_id == name:
            return episode
    raise InputError(
        f"episode {name!r} is not in {split}, which holds {len(episodes)} episodes such as "
        f"{episodes[0].instr_id}; check the name or --split"
    )


def _find_prediction(file: Path, episodes: Sequence[Episode], name: str) -> Prediction:
    predictions = renamed(read_submission(file), episodes)
    for prediction in predictions:
        if prediction.instr_id == name:
            return prediction
    raise InputError(f"{file}: holds {len(predictions)} walks, none of episode {name}")


def _walk_now(root: Path, episode: Episode, folder: Path, task: Task) -> Prediction:
    policy, run = open_policy(folder)
    world = World(root, replace(data_config(run), task=task))
    ready = world.tokenise([episode])
    panoramas = world.panoramas(ready)
    check_fit(policy.config, panoramas, ready, str(folder))
    rule = protocol_of(world.config)
    _, predictions = evaluate(
        policy, panoramas, ready, world.layout.connectivity, rule, progress=False
    )
    return predictions[0]
