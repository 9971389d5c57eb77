"""Published numbers, reproduced from published trajectories on the real graphs."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.r2r import read_r2r
from sterna.files import read_json, write_json
from sterna.metrics import (
    R2R_DUET,
    R2R_MATTERSIM,
    R4R_DUET,
    REVERIE_DUET,
    REVERIE_OFFICIAL,
    Prediction,
    read_submission,
    score_file,
    score_predictions,
    validate_file,
    write_submission,
)
from sterna.recipes.answers import read_answers

NAVILLM = "navillm_val_seen__66b3c71e.json"
NAMES = {
    "length": "TL",
    "nav_error": "NE",
    "oracle success_rate": "OSR",
    "success_rate": "SR",
    "spl": "SPL",
}
STATED = {
    NAVILLM: (
        "val_seen",
        1021,
        12.413005339988327,
        2.872915132209688,
        0.8207639569049952,
        0.7355533790401567,
        0.6869004627077825,
        1e-9,
    ),
    "val_unseen_seq2seq_final_agent.json": (
        "val_unseen",
        2349,
        8.230151855941534,
        7.997559874839925,
        0.2822477650063857,
        0.21030225627926777,
        0.1825830287576982,
        1e-9,
    ),
    "val_unseen_random_agent.json": (
        "val_unseen",
        2349,
        9.737114,
        9.219265,
        0.214985,
        0.160068,
        0.140068,
        6e-7,
    ),
    "val_seen_random_agent.json": (
        "val_seen",
        1021,
        9.613820,
        9.495262,
        0.210578,
        0.162586,
        0.148972,
        6e-7,
    ),
    "val_unseen_shortest_agent.json": ("val_unseen", 2349, 9.479686, 0, 1, 1, 1, 6e-7),
    "val_seen_shortest_agent.json": ("val_seen", 1021, 10.186418, 0, 1, 1, 1, 6e-7),
    "val_unseen_stop_agent.json": ("val_unseen", 2349, 0, 9.479686, 0, 0, 0, 6e-7),
    "val_seen_stop_agent.json": ("val_seen", 1021, 0, 10.186418, 0, 0, 0, 6e-7),
}


@pytest.mark.parametrize("name", STATED)
def test_known_scores(data_dir, connectivity, r2r, name):
    split, count, *numbers, tolerance = STATED[name]
    file = data_dir / "agents" / "r2r" / name
    scored = score_file(file, r2r(split), connectivity, R2R_MATTERSIM)
    assert scored.episodes == scored.expected == count
    for key, number in zip(("TL", "NE", "OSR", "SR", "SPL"), numbers, strict=True):
        assert scored.scores[key].mean == pytest.approx(number, abs=tolerance), key


def test_navillm_every_instruction(data_dir, connectivity, r2r):
    file = data_dir / "agents" / "r2r" / NAVILLM
    table = score_file(file, r2r("val_seen"), connectivity, R2R_MATTERSIM).per_episode
    place = {name: i for i, name in enumerate(table["instr_id"])}
    items = read_json(file)[1:]
    assert len(items) == len(place)
    names = {
        "nav_error": "NE",
        "oracle_error": "oracle_error",
        "trajectory_length": "TL",
        "success": "SR",
        "oracle_success": "OSR",
        "spl": "SPL",
    }
    for item in items:
        for theirs, ours in names.items():
            found = table[ours][place[item["instr_id"]]]
            assert found == pytest.approx(item["metrics"][theirs], abs=1e-9), item["instr_id"]


def test_seq2seq_log_row(data_dir, connectivity, r2r):
    folder = data_dir / "agents" / "r2r"
    with (folder / "seq2seq_sample_imagenet_log.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["iteration"] == "17500")
    file = folder / "seq2seq_sample_imagenet_val_unseen_iter_17500.json"
    scores = score_file(file, r2r("val_unseen"), connectivity, R2R_MATTERSIM).scores
    for theirs, ours in NAMES.items():
        assert scores[ours].mean == pytest.approx(float(row[f"val_unseen {theirs}"]), abs=1e-9)


def test_seq2seq_compact_every_instruction(data_dir, connectivity, r2r):
    folder = data_dir / "agents" / "r2r"
    episodes = r2r("val_unseen")
    file = folder / "val_unseen_seq2seq_final_agent.json"
    scored = score_file(file, episodes, connectivity, R2R_MATTERSIM)
    stated = read_json(folder / "r2r_seq2seq_val_unseen_compact.json")
    for theirs, ours in NAMES.items():
        assert scored.scores[ours].mean == pytest.approx(stated[0][theirs], abs=1e-9)
    table, ours, theirs = scored.per_episode, defaultdict(list), defaultdict(list)
    for i, episode in enumerate(episodes):
        ours[episode.instruction].append([table[name][i] for name in ("SR", "OSR", "SPL")])
    for item in stated[1:]:
        row = [item["success"], item["oracle_success"], item["spl"]]
        theirs[item["instruction"]].append(row)
    assert ours.keys() == theirs.keys() and len(stated) - 1 == len(episodes)
    for text, rows in ours.items():
        assert np.allclose(sorted(rows), sorted(theirs[text]), rtol=0, atol=1e-9), text


def test_spl_of_the_two_reference_lengths(data_dir, connectivity, r2r):
    file = data_dir / "agents" / "r2r" / "val_unseen_seq2seq_final_agent.json"
    found = [
        100 * score_file(file, r2r("val_unseen"), connectivity, protocol).scores["SPL"].mean
        for protocol in (R2R_MATTERSIM, R2R_DUET)
    ]
    assert found == pytest.approx([18.2583, 18.2888], abs=5e-5)


def test_the_librarys_reader_gives_the_same_answers(data_dir, connectivity, r2r):
    file = data_dir / "agents" / "r2r" / NAVILLM
    ours = score_file(file, read_r2r(data_dir, "val_seen"), connectivity, R2R_DUET)
    assert ours == score_file(file, r2r("val_seen"), connectivity, R2R_DUET)


DUET_NAMES = {
    "nav_error": "NE",
    "oracle_error": "oracle_error",
    "action_steps": "action_steps",
    "trajectory_steps": "steps",
    "trajectory_lengths": "TL",
    "success": "SR",
    "oracle_success": "OSR",
    "spl": "SPL",
    "DTW": "DTW",
    "nDTW": "nDTW",
    "SDTW": "SDTW",
    "CLS": "CLS",
    "rgs": "RGS",
    "rgspl": "RGSPL",
}
DUET_MEANS = {"steps": "steps", "lengths": "TL", "sr": "SR", "oracle_sr": "OSR"}
PERCENT = {"SR", "OSR", "SPL", "nDTW", "SDTW", "CLS", "RGS", "RGSPL"}


def check_golden(case, episodes, connectivity, protocol):
    """Compare every item and every printed mean of one set of hand-made predictions."""
    predictions = [
        Prediction(
            instr_id=name,
            hops=tuple(tuple(hop) for hop in item["trajectory"]),
            object_id=int(item["pred_objid"]) if item.get("pred_objid") else None,
        )
        for name, item in case["items"].items()
    ]
    wanted = [e for e in episodes if e.instr_id in case["items"]]
    scored = score_predictions(predictions, wanted, connectivity, protocol)
    place = {name: i for i, name in enumerate(scored.per_episode["instr_id"])}
    checked = 0
    for name, item in case["items"].items():
        for theirs in DUET_NAMES.keys() & item.keys():
            found = scored.per_episode[DUET_NAMES[theirs]][place[name]]
            assert found == pytest.approx(item[theirs], abs=1e-9), (name, theirs)
            checked += 1
    for theirs, mean in case["summary"].items():
        ours = DUET_MEANS.get(theirs) or DUET_NAMES[theirs]
        factor = 100 if ours in PERCENT else 1
        assert scored.scores[ours].mean * factor == pytest.approx(mean, abs=1e-9), theirs
    return checked


@cache
def reverie_answers(data_dir):
    return read_answers(Layout(data_dir), "reverie", "val_unseen")


KINDS = ("gt", "short1", "over1", "backtrack", "stop", "detour")


@pytest.mark.parametrize("kind", KINDS)
def test_golden_e_r2r(data_dir, connectivity, r2r, kind):
    case = read_json(data_dir / "golden" / "E_eval_r2r.json")[kind]
    assert check_golden(case, r2r("val_unseen"), connectivity, R2R_DUET) == 40 * 12


@pytest.mark.parametrize("kind", KINDS)
def test_golden_e_reverie_from_files(data_dir, connectivity, kind, tmp_path):
    """From the publisher's files to the printed means, through the library's readers alone."""
    case = read_json(data_dir / "golden" / "E_eval_reverie.json")[kind]
    items = [{"instr_id": name, **item} for name, item in case["items"].items()]
    write_json(tmp_path / "duet.json", items)
    episodes = [e for e in reverie_answers(data_dir) if e.instr_id in case["items"]]
    scored = score_file(tmp_path / "duet.json", episodes, connectivity, REVERIE_DUET)
    assert scored.episodes == 40
    for theirs, mean in case["summary"].items():
        ours = DUET_MEANS.get(theirs) or DUET_NAMES[theirs]
        factor = 100 if ours in PERCENT else 1
        assert scored.scores[ours].mean * factor == pytest.approx(mean, abs=1e-9), theirs
    table = scored.per_episode
    for name, *scores in zip(
        table["instr_id"], table["RGS"], table["SR"], table["RGS_at_goal"], strict=True
    ):
        item = case["items"][name]
        assert scores == [item["rgs"], item["success"], item["rgs"] * item["success"]]
    for name, found in zip(table["instr_id"], table["RGSPL_at_goal"], strict=True):
        item = case["items"][name]
        assert found == pytest.approx(item["rgspl"] * item["success"], abs=1e-9)
    write_submission(
        tmp_path / "submit.json", read_submission(tmp_path / "duet.json"), objects=True
    )
    assert validate_file(tmp_path / "submit.json", episodes, connectivity, board="reverie") == 40
    again = score_file(tmp_path / "submit.json", episodes, connectivity, REVERIE_DUET)
    assert again.scores["RGSPL"] == scored.scores["RGSPL"]


def test_the_authors_evaluator_divides_by_the_shortest_path(data_dir, connectivity):
    """REVERIE_OFFICIAL differs from REVERIE_DUET where the annotated path is a detour."""
    episodes = reverie_answers(data_dir)
    walks = [
        Prediction(instr_id=e.instr_id, hops=tuple((v,) for v in e.path), object_id=e.object_id)
        for e in episodes
    ]
    duet = score_predictions(walks, episodes, connectivity, REVERIE_DUET).per_episode
    official = score_predictions(walks, episodes, connectivity, REVERIE_OFFICIAL).per_episode
    assert set(duet["SPL"]) == set(duet["RGSPL"]) == {1.0}
    assert len(episodes) == 3521 and set(official["SR"]) == set(official["RGS"]) == {1.0}
    shorter = {
        name.rpartition("_")[0]
        for name, spl in zip(official["instr_id"], official["SPL"], strict=True)
        if spl < 1 - 1e-9
    }
    assert len(shorter) == 9  # paths of val_unseen that are not shortest
    assert official["RGSPL"] == official["SPL"]


@pytest.mark.parametrize("kind", KINDS)
def test_golden_e_reverie(data_dir, connectivity, reverie, kind):
    case = read_json(data_dir / "golden" / "E_eval_reverie.json")[kind]
    episodes = reverie(set(case["items"]))
    assert check_golden(case, episodes, connectivity, REVERIE_DUET) == 40 * 8


def test_golden_trajectories_survive_the_leaderboard_format(data_dir, connectivity, r2r, tmp_path):
    case = read_json(data_dir / "golden" / "E_eval_r2r.json")["backtrack"]
    predictions = [
        Prediction(instr_id=name, hops=tuple(map(tuple, item["trajectory"])))
        for name, item in case["items"].items()
    ]
    episodes = [e for e in r2r("val_unseen") if e.instr_id in case["items"]]
    write_submission(tmp_path / "out.json", predictions)
    hops = score_predictions(predictions, episodes, connectivity, R2R_DUET).per_episode
    flat = score_file(tmp_path / "out.json", episodes, connectivity, R2R_DUET).per_episode
    assert {k: v for k, v in hops.items() if k != "action_steps"} == {
        k: v for k, v in flat.items() if k != "action_steps"
    }
    assert [p.path for p in read_submission(tmp_path / "out.json")] == [p.path for p in predictions]


def one(scan, reference, path, folder, protocol=R2R_MATTERSIM):
    episode = Episode(
        instr_id="1_0",
        scan=scan,
        path=tuple(reference),
        heading=0.0,
        instruction="",
        path_id=1,
    )
    prediction = Prediction(instr_id="1_0", hops=tuple((v,) for v in path))
    scores = score_predictions([prediction], [episode], folder, protocol).scores
    return {name: score.mean for name, score in scores.items()}


def test_valan_case(data_dir, connectivity, tmp_path, write_graph):
    case = read_json(data_dir / "metrics" / "valan_eval_metric_case.json")
    places = case["positions_xyz_m_from_house_file_P_lines"]
    write_graph(tmp_path, case["scan"], places, case["edges"])
    found = one(case["scan"], case["reference_path"], case["agent_path"], tmp_path)
    stated = case["expected"]
    for ours, theirs in {"TL": "path_length", "CLS": "cls", "SPL": "spl"}.items():
        assert found[ours] == pytest.approx(stated[theirs], abs=1e-9), ours
    assert found["NE"] == 0 and found["SR"] == found["OSR"] == 1
    assert found["nDTW"] == pytest.approx(0.7020390224713315, abs=1e-9)
    assert found["SDTW"] == found["nDTW"]
    ids = case["pano_index"]
    short = one(case["scan"], case["reference_path"], [ids[k] for k in "1375"], tmp_path)
    assert short["NE"] == pytest.approx(case["prefix_1_3_7_5"]["navigation_error"], abs=1e-9)
    poses = one(case["scan"], case["reference_path"], case["agent_path"], connectivity)
    assert poses["CLS"] == pytest.approx(0.36469954157269524, abs=1e-9)
    assert poses["TL"] == pytest.approx(9.829698661225011, abs=1e-9)


def test_rxr_case(data_dir, connectivity):
    case = read_json(data_dir / "metrics" / "rxr_readme_case.json")
    follower = case["follower"]
    found = one(case["scan"], case["guide"]["path"], follower["path"], connectivity)
    stated = follower["metrics"]
    names = {"ne": "NE", "sr": "SR", "spl": "SPL", "ndtw": "nDTW", "sdtw": "SDTW"}
    for theirs, ours in names.items():
        assert found[ours] == pytest.approx(stated[theirs], abs=2e-3), ours
    assert math.exp(-stated["dtw"] / (5 * 3)) == pytest.approx(stated["ndtw"], abs=1e-12)
    assert found["SPL"] == pytest.approx(0.948222298297369, abs=1e-9)
    assert found["DTW"] == pytest.approx(1.575959447384354, abs=1e-9)
    assert found["nDTW"] == pytest.approx(0.9002669368274178, abs=1e-9)


def test_r4r_references_score_perfectly_and_shortcuts_do_not(data_dir, connectivity, r4r):
    follow = [Prediction(instr_id=e.instr_id, hops=tuple((v,) for v in e.path)) for e in r4r]
    best = score_predictions(follow, r4r, connectivity, R4R_DUET).scores
    for name in ("SR", "SPL", "nDTW", "SDTW", "CLS"):
        assert best[name].mean == pytest.approx(1, abs=1e-12), name
    still = [Prediction(instr_id=e.instr_id, hops=((e.start,),)) for e in r4r]
    stopped = score_predictions(still, r4r, connectivity, R4R_DUET).scores
    assert stopped["CLS"].mean < 0.2 and stopped["nDTW"].mean < 0.2
