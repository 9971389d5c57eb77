"""The picture's parts: colours, dashes, text, clipping and places for labels."""

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.show.plan import Labels, Plan, make_plan
from sterna.show.png import image
from sterna.show.scene import (
    Disc,
    Layer,
    Line,
    Scene,
    Text,
    along,
    blend,
    dashes,
    one_line,
    rectangle,
    text_width,
    wrap,
)
from sterna.show.svg import svg

BOX = (100.0, 50.0, 300.0, 250.0)
POINT = st.tuples(st.floats(-500, 500), st.floats(-500, 500))


def length(points):
    return sum(math.dist(a, b) for a, b in pairwise(points))


def test_blend_mixes_with_white():
    assert blend("#000000", 0.0) == "#ffffff"
    assert blend("#0072b2", 1.0) == "#0072b2"
    assert blend("#ff0000", 0.5) == "#ff8080"


def test_along_measures_by_length():
    points = [(0.0, 0.0), (3.0, 0.0), (3.0, 1.0)]
    assert along(points, 0.5) == ((2.0, 0.0), (1.0, 0.0))
    assert along(points, 1.0) == ((3.0, 1.0), (0.0, 1.0))
    assert along([(5.0, 5.0), (5.0, 5.0)], 0.3) == ((5.0, 5.0), (0.0, 0.0))


def test_dashes_share_a_line_evenly_and_follow_its_corners():
    line = Line(points=((0.0, 0.0), (30.0, 0.0), (30.0, 30.0)), colour="#000000", width=2)
    pieces = dashes(line, 6, 6)
    assert len(pieces) == 6  # (60 + 6) / 12 = 5.5, rounded to even
    assert pieces[0].points[0] == (0.0, 0.0)
    assert pieces[-1].points[-1] == pytest.approx((30.0, 30.0))
    lengths = [length(piece.points) for piece in pieces]
    assert lengths == pytest.approx([60 / 11] * 6)
    assert dashes(Line(points=((1.0, 1.0),) * 2, colour="#000000", width=2), 6, 6)


@given(st.text(max_size=300), st.integers(1, 5))
def test_wrapped_text_fits(text, lines):
    rows = wrap(text, 18, 400, lines)
    assert len(rows) <= lines
    assert all(text_width(row, 18) <= 401 for row in rows)
    if len(rows) < lines:
        assert "".join(rows).replace(" ", "") == one_line(text).replace(" ", "")


def test_wrap_marks_what_it_cuts_and_breaks_endless_words():
    assert wrap("word " * 100, 18, 200, 2)[-1].endswith(" ...")
    endless = wrap("W" * 40 + "i" * 200, 18, 200, 20)
    assert len(endless) > 3
    assert all(text_width(row, 18) <= 200 for row in endless)
    assert wrap("", 18, 200, 2) == []


@given(POINT, POINT)
def test_clipping_keeps_what_lies_in_the_box(a, b):
    plan = Plan(box=BOX, scale=1.0, middle=(0.0, 0.0))
    cut = plan.clip(a, b)
    shares = np.linspace(0, 1, 101)
    inside = [
        BOX[0] < x < BOX[2] and BOX[1] < y < BOX[3]
        for x, y in zip(a[0] + shares * (b[0] - a[0]), a[1] + shares * (b[1] - a[1]), strict=True)
    ]
    if any(inside):
        assert cut is not None
    if cut is not None:
        for x, y in cut:
            assert BOX[0] - 1e-6 <= x <= BOX[2] + 1e-6
            assert BOX[1] - 1e-6 <= y <= BOX[3] + 1e-6


def test_a_plan_keeps_proportions_and_shows_all():
    shown = np.array([[0.0, 0.0, 0.0], [20.0, 8.0, 1.0]])
    plan = make_plan(shown, 10, 20, 600, (200, 500))
    (ax, ay), (bx, by) = plan.pixel(shown[0]), plan.pixel(shown[1])
    assert bx - ax == pytest.approx(20 * plan.scale)
    assert ay - by == pytest.approx(8 * plan.scale)  # +y is up
    assert plan.shows((ax, ay)) and plan.shows((bx, by))


def test_labels_keep_apart():
    labels = Labels(box=(0, 0, 400, 400))
    for k in range(8):
        labels.place((200 + k, 200.0), str(k), 14, 9)
    for i, (a, b, c, d) in enumerate(labels.placed):
        for p, q, r, s in labels.placed[:i]:
            assert min(c, r) <= max(a, p) or min(d, s) <= max(b, q)


def test_both_back_ends_draw_the_same_shapes():
    shapes = (
        rectangle((10, 10, 50, 40), "#0072b2"),
        Line(points=((60.0, 25.0), (110.0, 25.0)), colour="#d55e00", width=6),
        Disc(centre=(140.0, 25.0), radius=12, fill="#009e73", outline="#000000", width=2),
        Text(at=(20.0, 80.0), text='a < b & "c"', size=16, halo=2),
    )
    layer = Layer(name="all", shapes=shapes)
    scene = Scene(width=180, height=100, title="<t>", description="a & b", layers=(layer,))
    root = ET.fromstring(svg(scene))
    tags = [child.tag.split("}")[1] for child in root.find("*[@id='all']")]
    assert tags == ["polygon", "polyline", "circle", "text"]
    assert root.find("*[@id='all']")[3].text == 'a < b & "c"'
    picture = image(scene)
    assert picture.size == (180, 100)
    assert picture.getpixel((30, 25)) == (0x00, 0x72, 0xB2)
    assert picture.getpixel((85, 25)) == (0xD5, 0x5E, 0x00)
    assert picture.getpixel((140, 25)) == (0x00, 0x9E, 0x73)
    assert picture.getpixel((175, 95)) == (255, 255, 255)
