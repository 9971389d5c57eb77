"""Rooms one walks through: hall and corridor."""

from __future__ import annotations

from sterna.world.houses import furniture as f
from sterna.world.houses import objects as o
from sterna.world.houses.arrange import over, rug_near, scatter
from sterna.world.houses.place import Site


def hall(site: Site) -> None:
    """Coats, shoes, mirror, console, umbrella stand."""
    dice = site.dice
    bench = site.against(f.shoe_bench(dice), 450) if dice.chance(80) else None
    if bench is None or over(site, bench, o.coat_hooks(dice), 850) is None:
        site.against(f.coat_rack(dice), 0, None, "corner")
    table = site.against(f.console(dice), 450)
    scatter(site, table, ("telephone", "vase", "lamp", "photo frame", "books"), 2)
    if table is not None:
        over(site, table, o.mirror(dice, 600, 900), 1150)
    site.against(f.umbrella_stand(dice), 0)
    if dice.chance(40):
        rug_near(site, None)


def corridor(site: Site) -> None:
    """A console, a chair or a plant where they leave the way free; pictures follow."""
    dice = site.dice
    for _ in range(dice.between(1, 2)):
        table = site.against(f.console(dice), 0, None, "any", tries=10)
        scatter(site, table, ("vase", "lamp", "photo frame", "books", "telephone"), 2)
        if table is not None and dice.chance(70):
            over(site, table, o.mirror(dice, 600, 900), 1150)
    if dice.chance(60):
        along = 0 if site.width > site.depth else 1
        length = max(site.width, site.depth)
        rug = f.rug(dice, min(length - 800, 3000) // 200 * 200, 700)
        site.at(rug, *site.middle, along)
