"""Wordings of steps, and of what stands between them."""

from __future__ import annotations

from sterna.world.houses.language.grammar import Rule, rules
from sterna.world.houses.language.meaning import (
    Between,
    Climb,
    DoorRef,
    End,
    Go,
    Middle,
    Move,
    Pass,
    Reach,
    Wait,
)

GO = [
    *rules(
        "(go|walk|head|step) through {door}",
        "(exit|exit|leave|go out) through {door:out}",
        "exit using {door:out}",
        "take {door}",
        "(enter|enter|enter) {door:into}",
        "(go|walk|step|head|continue|proceed) into {door:into}",
        "make your way into {door:into}",
        "(keep going|keep walking) until you (reach|get to|are in) {door:into}",
        "(leave|exit|exit) the {at} through {door}",
        "(walk|go|head) out of the {at} through {door}",
        "(walk|go|head) out of the {at} into {door:into}",
        "(walk|go) through the {at} (into|to) {door:into}",
        "turn {turn} into {door:name}",
        "turn {turn} and (enter|walk into|go into) {door:name}",
        "(take a|make a) {turn} (into|and enter) {door:name}",
        "turn {turn} and (go|walk) through {door:plain}",
        "(take a|make a) {turn} (through|and walk through) {door:plain}",
    ),
    *rules(
        "(leave|exit|exit|exit) the {at}",
        "(walk|go|head|step|come|get) out of the {at}",
        "turn {turn} and (leave|exit|walk out of) the {at}",
        door=DoorRef(),
    ),
    *rules(
        "(walk|go|continue) straight into {door:name}",
        "(walk|go) straight through {door:plain}",
        turn="straight",
    ),
    *rules(
        "turn around and (leave|exit|walk out of|go out of) the {at}",
        door=DoorRef(),
        turn="around",
    ),
]
PASS = [
    *rules(
        "(walk|go|head|move|continue) past {mark}",
        "pass {mark}",
        "(walk|continue) on past {mark}",
        "keep (walking|going) until you (pass|have passed) {mark}",
        "(walk|go|head) past {mark} on (your|the) {side}",
        "pass {mark} on (your|the) {side}",
        "walk past {mark}, which will be on your {side}",
        "turn {turn} and (walk|go) past {mark}",
        "(walk|go|head|continue) past {mark:into}",
        "pass {mark:door}",
        "(walk|go) past {mark:door}",
    ),
]
BETWEEN = rules("(walk|go|pass|head) between {first} and {second}")
CLIMB = [
    *rules(
        "(go|walk|head) up the stairs",
        "climb the stairs",
        "(go|head) upstairs",
        "take the stairs up",
        "(go|walk) up the stairs to the top",
        "(take a|turn) {turn} and (go|walk) up the stairs",
        up=True,
    ),
    *rules(
        "(go|walk|head) down the stairs",
        "descend the stairs",
        "(go|head) downstairs",
        "take the stairs down",
        "(go|walk) down the stairs to the bottom",
        "(take a|turn) {turn} and (go|walk) down the stairs",
        up=False,
    ),
    *rules("(go|walk|climb) up the stairs to the landing", "take the stairs up to the landing",
           up=True, landing=True),
    *rules("(go|walk) down the stairs to the landing", "take the stairs down to the landing",
           up=False, landing=True),
]  # fmt: skip
REACH = [
    *rules(
        "(walk|go|head|move) to {mark}",
        "(walk|go|head) (toward|over to) {mark}",
        "approach {mark}",
        where="beside",
    ),
    *rules("(walk|go|move) to the front of {mark}", where="front"),
    *rules("(walk|go) to {mark:door}", where="in"),
]
REACH_LAST = [
    *rules("(stop|wait) (next to|beside|near|by|close to) {mark}", where="beside"),
    *rules("(stop|wait) when you (reach|get to) {mark}", where="beside"),
    *rules("(walk|go) (over to|to) {mark} and (stop|wait there|stop there)", where="beside"),
    *rules("(stop|wait|stand) in front of {mark}", where="front"),
    *rules("walk until you are in front of {mark}", where="front"),
    *rules("(stop|wait|stand) in {mark:door}", where="in"),
    *rules("(walk|go) to {mark:door} and (stop|wait) there", where="in"),
]
MIDDLE = rules(
    "(walk|go|move) to the (middle|center) of the room",
    "(walk|go|move) to the (middle|center) of the {at}",
)
MIDDLE_LAST = rules(
    "(stop|wait) in the (middle|center) of the room",
    "(stop|wait) in the (middle|center) of the {at}",
)
END = rules(
    "(walk|go|continue) to the (end|far end) of the {at}",
    "(walk|go) (all the way|straight) to the end of the {at}",
    "(walk|go) {turn} to the end of the {at}",
)
WAIT = rules(
    "(stop|wait) in the {room}",
    "(stop|wait) (once|when|as soon as) you are in the {room}",
    "(stop|wait) just inside the {room}",
)

MID: dict[type[Move], list[Rule]] = {
    Go: GO, Pass: PASS, Between: BETWEEN, Climb: CLIMB, Reach: REACH, Middle: MIDDLE, End: END,
    Wait: WAIT,
}  # fmt: skip
LAST: dict[type[Move], list[Rule]] = {**MID, Reach: REACH_LAST, Middle: MIDDLE_LAST}

TURNS: dict[str, tuple[str, ...]] = {
    "left": ("turn left",) * 4 + ("take a left", "make a left", "go left", "turn to your left",
             "take a left turn", "hang a left"),
    "right": ("turn right",) * 4 + ("take a right", "make a right", "go right",
              "turn to your right", "take a right turn", "hang a right"),
    "slightly left": ("turn slightly left", "bear left", "veer left", "take a slight left",
                      "turn left slightly", "angle left"),
    "slightly right": ("turn slightly right", "bear right", "veer right", "take a slight right",
                       "turn right slightly", "angle right"),
    "around": ("turn around",) * 3 + ("turn all the way around", "turn around completely",
               "turn to face the other way"),
    "straight": ("go straight", "walk straight", "walk straight ahead", "continue straight",
                 "walk forward", "go straight ahead", "move forward", "head straight ahead",
                 "keep going straight"),
}  # fmt: skip
INSIDE = rules("in the {at},")
FROM = rules("from the {at},")
ENTERED = rules(
    "once you are in the {at},",
    "once in the {at},",
    "when you are in the {at},",
    "when you (reach|get to) the {at},",
    "after entering the {at},",
    "now that you are in the {at},",
)
ALONG = rules(
    "(walk|go|continue|head) down the {at}",
    "(walk|go|continue) along the {at}",
    "follow the {at}",
    "(proceed|keep going) down the {at}",
)
ACROSS = rules("(walk|go|pass) through the {at}", "(walk|go) across the {at}", "cross the {at}")
STOPS = ("stop", "stop there", "wait there", "stay there", "stop right there")
STOPS_BY: dict[str, tuple[str, ...]] = {
    "go": ("stop just inside", "stop as soon as you are through", "wait just inside",
           "stop once you are inside", "stop right after you walk in", "wait near the entrance",
           "stop immediately after entering"),
    "up": ("stop at the top", "stop at the top of the stairs", "wait at the top"),
    "down": ("stop at the bottom", "stop at the bottom of the stairs", "wait at the bottom"),
    "landing": ("stop on the landing", "wait on the landing"),
}  # fmt: skip
ALL_STOPS = (*STOPS, *(stop for stops in STOPS_BY.values() for stop in stops))
JOINS = (" and then ", ", then ", " and ", ". ", ", ", " ")
