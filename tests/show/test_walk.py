"""Hops become moves: steps, ways back, lanes, and what is refused."""

import numpy as np
import pytest

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.show.walk import read_walk
from sterna.world.graph import build_graph

NAMES = "abcde"
# a - b - c - d, and b - e
LINKS = [(0, 1), (1, 2), (2, 3), (1, 4)]


@pytest.fixture
def graph():
    linked = np.zeros((5, 5), bool)
    for i, j in LINKS:
        linked[i, j] = linked[j, i] = True
    positions = np.array([[0, 0, 0], [2, 0, 0], [4, 0, 0], [6, 0, 0], [2, 3, 0]], np.float64)
    return build_graph("toy", NAMES, positions, linked)


@pytest.fixture
def episode():
    return Episode(
        instr_id="1_0", scan="toy", path=("a", "b", "c"), heading=0.0, instruction="Go.", path_id=1
    )


def test_hops_of_a_graph_navigator(graph, episode):
    walk = read_walk(graph, episode, [["a"], ["b"], ["c"], ["b", "e"], ["b", "c"]])
    assert walk.nodes == (0, 1, 2, 1, 4, 1, 2)
    assert [move.step for move in walk.moves] == [1, 2, 3, 3, 4, 4]
    assert [move.back for move in walk.moves] == [False, False, True, False, True, True]
    assert [move.lane for move in walk.moves] == [0, 0, 1, 0, 1, 2]
    assert walk.ends == (1, 2, 4, 2)


def test_a_flat_list_counts_moves_and_skips_turns_on_the_spot(graph, episode):
    walk = read_walk(graph, episode, ["a", "a", "b", "b", "b", "c"])
    assert walk.nodes == (0, 1, 2)
    assert walk.ends == (1, 2)
    assert walk == read_walk(graph, episode, [["a"], [], ["b"], ["b"], ["c"]])


def test_standing_still_is_a_walk_without_moves(graph, episode):
    walk = read_walk(graph, episode, [["a"]])
    assert (walk.nodes, walk.moves, walk.ends) == ((0,), (), ())


@pytest.mark.parametrize(
    ("hops", "said"),
    [
        (["b", "c"], "expected a trajectory from its start a, found b"),
        ([], "found an empty list"),
        (["a", "c"], "hop a -> c is no edge of scan toy"),
        ([["a"], ["b", "d"]], "hop b -> d is no edge"),
        (["a", "z"], "unknown viewpoint 'z'"),
    ],
)
def test_wrong_walks_are_refused_in_one_line(graph, episode, hops, said):
    with pytest.raises(InputError, match=said) as error:
        read_walk(graph, episode, hops)
    assert "\n" not in str(error.value)
