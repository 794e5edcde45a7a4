"""The sample runs of tests/runs, whole and torn, and readers that refuse what a machine would: XML by expat, HTML tag by tag."""

import copy
import json
import os
import xml.dom.minidom
from collections import Counter
from html.parser import HTMLParser

from hypothesis import strategies as st

RUNS = os.path.join(os.path.dirname(__file__), "runs")
NAMES = ("rollout", "failed-converge", "interrupted")


def events(name):
    with open(os.path.join(RUNS, name + ".jsonl"), encoding="utf-8") as file:
        return [json.loads(row) for row in file]


def strict(text):
    """Parsed by expat, which refuses what XML 1.0 does not allow."""
    return xml.dom.minidom.parseString(text.encode("utf-8")).documentElement


class Balanced(HTMLParser):
    """Raises where a tag is not closed, and gathers what the page would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags, self.shown = [], [], Counter(), []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] != "style":
            self.shown.append(text)


def page(text):
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


JUNK = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=5)
POOL = [e for name in NAMES for e in events(name)]


@st.composite
def torn(draw):
    """A run whose events are cut off, left out, doubled or swapped, whose fields are missing or of another kind."""
    run = copy.deepcopy(events(draw(st.sampled_from(NAMES))))
    run = run[draw(st.integers(0, 3)):draw(st.integers(0, len(run)))]
    for _ in range(draw(st.integers(0, 8))):
        if not run:
            break
        n = draw(st.integers(0, len(run) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                del run[n]
            case 1:
                run.insert(n, copy.deepcopy(draw(st.sampled_from(POOL))))
            case 2:
                run[n] = {"kind": draw(st.text(max_size=8)), "at": draw(JUNK)}
            case 3 | 4:
                if isinstance(run[n], dict) and run[n]:
                    run[n][draw(st.sampled_from(sorted(run[n])))] = draw(JUNK)
            case 5:
                seen = run[n].get("seen") if isinstance(run[n], dict) else None
                if isinstance(seen, dict) and seen.get("hosts") and isinstance(seen["hosts"][0], dict):
                    seen["hosts"][0][draw(st.sampled_from(sorted(seen["hosts"][0]) or ["x"]))] = draw(JUNK)
    return run
