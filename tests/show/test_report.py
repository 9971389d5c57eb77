"""The report page: one file, nothing from the network, its values whole, its script sound."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sterna.show.report import (
    Curve,
    Decision,
    Floor,
    Plan,
    Report,
    ScoreRow,
    Shown,
    Walked,
    write_report,
)
from sterna.show.report.page import page
from sterna.show.report.parts import data_uri

WRONG = Curve(name="x", colour="", points=())
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def make_report(name="7_0"):
    first = Decision(
        node=0,
        heading=0.5,
        options=((1, 0.7, 0.6), (2, 0.1, None)),
        stop=0.2,
        choice=1,
        views=(1 / 36,) * 36,
        words=(0.1, 0.5, 0.3, 0.1),
    )
    last = replace(first, node=1, options=((2, 0.25, 1.0),), stop=0.75, choice=-1)
    walk = Walked(
        name="student",
        colour="#d55e00",
        decisions=(first, last),
        path=(0, 1),
        reached=(1, 2),
        success=True,
        error=0.0,
    )
    episode = Shown(
        name=name,
        scan="house-1",
        split="val_unseen",
        pieces=("[CLS]", "go", "##ing", "[SEP]"),
        reference=(0, 1),
        goals=(1,),
        walks=(walk, replace(walk, name="teacher")),
    )
    picture = data_uri(Image.new("RGB", (40, 20), "#88aa66"))
    floor = Floor(image=picture, west=-1.0, north=2.0, width=4.0, height=3.0)
    plan = Plan(
        nodes=((0.0, 0.0, 0), (1.5, 0.5, 0), (2.5, 1.0, 0)), edges=((0, 1), (1, 2)), floors=(floor,)
    )
    return Report(
        title="A <b>run</b> & more",
        lead="What was done.",
        columns=("SR",),
        rows=(ScoreRow(name="student", cells=("70.0 ± 1.0",)),),
        notes=("one note",),
        curves=(Curve(name="student", colour="#d55e00", points=((1.0, 20.0), (2.0, 70.123456))),),
        score="SR on val_seen, percent",
        episodes=(episode,),
        plans={"house-1": plan},
        strips={"house-1/0": picture},
        foot="made by a test",
    )


def values_of(text):
    inner = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(inner[1])


def test_the_page_holds_all_values_and_reaches_for_nothing(tmp_path):
    file = write_report(make_report(), tmp_path / "report.html")
    text = file.read_text("utf-8")
    values = values_of(text)
    assert values["episodes"][0]["walks"][0]["decisions"][0]["options"] == [
        [1, 0.7, 0.6],
        [2, 0.1, None],
    ]
    assert values["curves"][0]["points"][1] == [2.0, 70.1235]
    outside = text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert "http" not in outside and "@@" not in text
    assert "<title>A &lt;b&gt;run&lt;/b&gt; &amp; more</title>" in text


def test_no_value_can_leave_its_script():
    name = "</script><script>alert(1)</script>\u2028"
    text = page(make_report(name))
    assert text.count("<script") == 2 and "alert(1)</script>" not in text
    assert values_of(text)["episodes"][0]["name"] == name


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        page(
            replace(
                make_report(), curves=(Curve(name="x", colour="", points=((0, float("nan")),)),)
            )
        )


DRIVE = """
<script>
addEventListener("load", () => {
  const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
  const count = () => document.getElementById("count").textContent;
  const said = [count()];
  press("ArrowRight"); said.push(count());
  press("ArrowRight"); said.push(count());
  press("ArrowLeft"); said.push(count());
  press("t"); said.push(document.querySelector("[aria-pressed=true]").textContent);
  said.push(document.getElementById("instruction").textContent);
  said.push(String(document.documentElement.scrollWidth <= innerWidth));
  document.title = said.join("|");
  document.body.setAttribute("data-said", said.join("|"));
});
addEventListener("error", (event) => document.body.setAttribute("data-error", event.message));
</script>
"""


def driven(tmp_path, report, script, width=1280):
    """Open a page in Chromium and return what the script said."""
    text = page(report).replace("</body>", script + "</body>")
    (tmp_path / "page.html").write_text(text, "utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update"
    )
    out = subprocess.run(
        [
            CHROMIUM,
            *flags.split(),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900",
            "--dump-dom",
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "data-error" not in out.stdout.split("<script>")[0]
    return re.search(r'data-said="([^"]*)"', out.stdout)[1].split("|")


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: the page's script is not run"
)


@needs_chromium
@pytest.mark.parametrize("width", [1280, 500])
def test_arrow_keys_step_through_an_episode(tmp_path, width):
    steps = ["step 1 of 2", "step 2 of 2", "step 2 of 2", "step 1 of 2"]
    said = driven(tmp_path, make_report(), DRIVE, width)
    assert said == [*steps, "teacher", "Going", "true"]


FRAMES = """
<script>
addEventListener("load", () => {
  const frames = [...document.querySelectorAll('rect[stroke="#ffc400"]')];
  const places = frames.map((one) => `${one.getAttribute("x")} ${one.getAttribute("y")}`);
  document.body.setAttribute("data-said", places.join("|"));
});
</script>
"""


def looking(weights):
    """Return a report whose first decision attends to its views like that."""
    report = make_report()
    (episode,) = report.episodes
    walk = episode.walks[0]
    first = replace(walk.decisions[0], views=weights)
    walks = (replace(walk, decisions=(first, *walk.decisions[1:])), *episode.walks[1:])
    return replace(report, episodes=(replace(episode, walks=walks),))


@needs_chromium
def test_level_views_are_framed_where_they_are_among_all_36(tmp_path):
    level = np.full(12, 0.02)
    level[[2, 7]] = 0.5, 0.3
    among = np.zeros(36)
    among[12:24] = level
    said = [driven(tmp_path, looking(tuple(part)), FRAMES) for part in (level, among)]
    assert said[0] == said[1] and len(said[0]) == 2 * 3  # drawn again beyond both edges
