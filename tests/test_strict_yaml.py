"""The loader keeps every scalar as typed, and whatever it is given it answers with a tree or one sentence."""

import pytest
import yaml
from hypothesis import example, given, settings, strategies

from bgdeploy import inventory, strict_yaml
from bgdeploy.errors import BadInput
from bgdeploy.strict_yaml import Mapping, Scalar
from tests.test_inventory import GOOD, ROOT

CALM = settings(deadline=None)      # two cores may be busy with other things


def plain(node):
    """The tree as dicts, lists and text."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    return node.text if isinstance(node, Scalar) else [plain(item) for item in node.items]


def parse(text):
    return strict_yaml.parse(text.encode("utf-8", "surrogatepass"), "x.yml")


@pytest.mark.parametrize("typed, reads_as", [
    ("1.10", "float"), ("1:2.0", "float"), ("2", "int"), ("0x10", "int"), ("010", "int"), ("1_000", "int"), ("190:20:30", "int"),
    (".inf", "float"), (".nan", "float"), ("no", "bool"), ("On", "bool"), ("yes", "bool"), ("~", "null"), ("null", "null"),
    ("", "null"), ("2024-01-31", "timestamp"), ("2.0.0", "str"), ("1e3", "str"), ("green", "str"), ("y", "str")])
def test_a_plain_scalar_stays_as_typed_and_says_what_others_make_of_it(typed, reads_as):
    (_, node), = parse(f"key: {typed}").entries.values()
    assert (node.text, node.reads_as, node.quoted) == (typed, reads_as, False)
    if typed:
        (_, node), = parse(f"key: '{typed}'").entries.values()
        assert (node.text, node.reads_as, node.quoted) == (typed, "str", True)


def test_keys_stay_as_typed_too_and_know_their_lines():
    tree = parse("no: 1\n1.10:\n  - ~: x\n")
    assert {key: line for key, (line, _) in tree.entries.items()} == {"no": 1, "1.10": 2}
    assert plain(tree) == {"no": "1", "1.10": [{"~": "x"}]}


def test_a_file_may_begin_with_one_document_mark():
    assert plain(parse("---\na: b\n")) == {"a": "b"}
    assert parse("# nothing\n") is None


def test_an_alias_is_refused_before_anything_is_built():
    with pytest.raises(BadInput, match="x.yml:1: a word that begins with & is an anchor"):
        parse("a: &a [*a, *a]")
    with pytest.raises(BadInput, match=r"x.yml:1: a word that begins with \* is an alias"):
        parse("a: *b")


TREES = strategies.recursive(
    strategies.text(strategies.characters(min_codepoint=32, max_codepoint=126), max_size=8),
    lambda below: strategies.lists(below, max_size=3) | strategies.dictionaries(
        strategies.text("abcdefgh.-_ 0123456789:#'\"", min_size=1, max_size=6), below, max_size=3), max_leaves=15)


@given(strategies.dictionaries(strategies.text("abc:# ", min_size=1, max_size=4), TREES, min_size=1, max_size=4))
@CALM
def test_what_is_written_in_quotes_comes_back_as_it_was(tree):
    dumper = yaml.SafeDumper
    dumper.ignore_aliases = lambda *_: True
    assert plain(parse(yaml.dump(tree, Dumper=dumper, default_style='"', width=10**6))) == tree


@given(strategies.text("0123456789.:eE+-_xinfaNyo~", min_size=1, max_size=8))
@CALM
def test_no_plain_scalar_is_ever_changed(typed):
    try:
        found = plain(parse(f"key: {typed}\n"))
    except BadInput:
        return      # a dash or a colon that means something to YAML
    assert found in ({"key": typed}, {"key": [typed[2:]]})


def one_sentence(content):
    """The sentence for what is refused, after looking at its form; or None."""
    try:
        strict_yaml.parse(content, "x.yml")
    except BadInput as refused:
        assert refused.sentence.startswith("x.yml:") and refused.sentence.isprintable() and len(refused.sentence) < 400
        return refused.sentence
    return None


@given(strategies.binary(max_size=60))
@example(b"\xff\xfe\x00")
@example(b"%YAML 99999999999999999999.1\n---\na: b")
@example(b'"\\x"')
@example(b'"\\U00110000"')
@example(b"? |\n")
@example(b"!<")
@example(b"%TAG ! tag:x\n--- a")
@example(b"&" + b"a" * 300 + b" b")
@example(b"- - - - - - - - - - - - - - - - - - - x")
@CALM
def test_bytes_of_any_kind_are_read_or_refused_in_one_sentence(content):
    one_sentence(content)


@given(strategies.text(strategies.sampled_from("ab:-?[]{},#&*!|>'\"%@` \n\t\\<=.0~"), max_size=40))
@settings(CALM, max_examples=300)
def test_signs_of_any_kind_are_read_or_refused_in_one_sentence(text):
    one_sentence(text.encode())


SAMPLE = (ROOT / "inventories" / "sample.yml").read_text(encoding="utf-8")
PIECES = strategies.sampled_from(["", ":", " ", "\n", "- ", "{", "}", "[", "]", "'", '"', "&a ", "*a", "1e3", "-1", "null", "~",
                                  "no", "é", "..", "/", "\t", "green", "api", "99999999999", "1.10",
                                  ", ", "!x ", "#", "\x00", "\u202e"])


@given(strategies.sampled_from([GOOD, SAMPLE]), strategies.integers(0, 10**6), strategies.integers(0, 12), PIECES)
@settings(CALM, max_examples=250)
def test_an_inventory_with_a_slip_of_the_pen_is_read_or_refused_in_one_sentence(tmp_path_factory, text, place, length, piece):
    place %= len(text)
    folder = tmp_path_factory.getbasetemp()
    (folder / "slip.yml").write_text(text[:place] + piece + text[place + length:], encoding="utf-8")
    try:
        site = inventory.read(folder / "slip.yml", folder)
    except BadInput as refused:
        assert refused.sentence.startswith("slip.yml:") and refused.sentence.isprintable() and len(refused.sentence) < 700
    else:
        assert site.stacks and site.components and site.live.nodes and site.standby.nodes and all(s.hosts for s in site.stacks)


NAMES = strategies.from_regex(r"\A[a-z][a-z0-9]{0,5}(-[0-9])?\Z")


@given(strategies.lists(NAMES, min_size=3, max_size=12, unique=True),
       strategies.lists(NAMES, min_size=1, max_size=3, unique=True), strategies.integers(1, 65000),
       strategies.floats(0.1, 5).map(lambda f: round(f, 2)))
@settings(CALM, max_examples=60)
def test_what_a_machine_writes_is_read_back_the_same(tmp_path_factory, hosts, components, port, interval):
    folder = tmp_path_factory.getbasetemp()
    document = {
        "components": {name: {"port": port + n} for n, name in enumerate(components)},
        "stacks": {"s1": {"hosts": hosts[:1]}, "s2": {"hosts": {name: {"address": f"10.1.0.{n + 1}", "port": port + n}
                                                             for n, name in enumerate(hosts[1:])}}},
        "balancers": {"live": {"nodes": {"n1": {"address": "10.2.0.1", "interval": interval}}}, "standby": {"nodes": ["n2"]}}}
    (folder / "written.yml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    site = inventory.read(folder / "written.yml", folder)
    assert [(c.name, c.port) for c in site.components] == [(name, port + n) for n, name in enumerate(components)]
    assert [h.name for h in site.hosts] == hosts
    assert [h.address for h in site.stack("s2").hosts] == [f"10.1.0.{n + 1}" for n in range(len(hosts) - 1)]
    assert [h.port for h in site.stack("s2").hosts] == [port + n for n in range(len(hosts) - 1)]
    assert site.live.nodes[0].interval == interval
