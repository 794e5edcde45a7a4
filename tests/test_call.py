"""What is made of the words after a task, and what is said to those that are not clearly meant."""

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from bgdeploy import call, inventory
from bgdeploy.errors import BadInput

SITE = inventory.read(Path(__file__).parent / "inventories" / "good.yml", Path(__file__).parent)
CALM = settings(deadline=None)      # two cores may be busy with other things
UNSET = "(is a variable of the calling script not set?)"


def sentence(function, *arguments, **more):
    with pytest.raises(BadInput) as caught:
        function(*arguments, **more)
    assert caught.value.exit_code == 2
    return caught.value.sentence


@pytest.mark.parametrize("typed, said", [
    (None, "--stack is missing; type --stack green|blue"),
    ("", f"--stack is empty; it wants a stack's name: green, blue {UNSET}"),
    ("  ", f"--stack is empty; it wants a stack's name: green, blue {UNSET}"),
    (True, "--stack has no value; it wants a stack's name: green, blue"),
    ("--yes", '--stack: "--yes" begins with a dash, like another option; --stack wants a stack\'s name: green, blue'),
    ("--help", '--stack: "--help" begins with a dash, like another option; --stack wants a stack\'s name: green, blue'),
    ("gren", '--stack: inventories/good.yml has no stack "gren"; did you mean green?'),
    ("GREEN", '--stack: inventories/good.yml has no stack "GREEN"; did you mean green?'),
    ("green,blue", '--stack: inventories/good.yml has no stack "green,blue"; did you mean green?'),
    ("xyz", '--stack: inventories/good.yml has no stack "xyz"; there are blue, green'),
    ("gre\nen", '--stack: "gre en" has a line break or an invisible character; it wants a stack\'s name on one line'),
    (["green", "blue"], "--stack is there 2 times; it wants a stack's name, once"),
])
def test_a_stack_is_named_once_and_is_there(typed, said):
    assert sentence(call.stack, typed, SITE) == said


def test_a_stack_that_is_there_is_taken():
    assert call.stack("green", SITE) == "green"
    assert call.stack(" blue ", SITE) == "blue"
    assert call.stack(["blue"], SITE) == "blue"


def test_a_stack_that_may_be_left_out_may_not_be_empty():
    assert call.maybe_stack(None, SITE) is None
    assert call.maybe_stack("blue", SITE) == "blue"
    assert sentence(call.maybe_stack, "", SITE).startswith("--first is empty")


@pytest.mark.parametrize("typed", ["", " ", ",", " , ,", [""], []])
def test_an_empty_selection_of_hosts_is_never_all_of_them(typed):
    assert sentence(call.hosts, typed, SITE, "green").startswith("--hosts: empty selection; it wants host names")


def test_hosts_come_in_the_inventorys_order_and_left_out_is_no_selection():
    assert call.hosts(None, SITE, "green") == ()
    assert call.hosts("green2,green1", SITE, "green") == ("green1", "green2")
    assert call.hosts("green2 , blue1", SITE) == ("green2", "blue1")


@pytest.mark.parametrize("typed, said", [
    ("green1,gren2", '--hosts: inventories/good.yml has no host "gren2"; did you mean green2?'),
    ("blue1", "--hosts: blue1 belongs to stack blue, not to green; green has green1, green2"),
    ("green1,", '--hosts: "green1," has an empty place between its commas; take the spare comma out'),
    ("green1,,green2", '--hosts: "green1,,green2" has an empty place between its commas; take the spare comma out'),
    ("green1,green1", '--hosts: "green1" is there twice; name it once'),
    ("--version", '--hosts: "--version" begins with a dash, like another option; --hosts wants host names: green1, green2'),
    ("green1,-x", '--hosts: "-x" begins with a dash; it wants host names'),
    ("all", '--hosts: inventories/good.yml has no host "all"; there are green1, green2'),
    ("*", '--hosts: inventories/good.yml has no host "*"; there are green1, green2'),
    ("green1 green2", '--hosts: inventories/good.yml has no host "green1 green2"; did you mean green2?'),
    ("\x1b[31mgreen1", '--hosts: "green1" has a line break or an invisible character; it wants host names on one line'),
])
def test_a_host_that_is_not_meant_is_named(typed, said):
    assert sentence(call.hosts, typed, SITE, "green") == said


@pytest.mark.parametrize("typed, pairs", [
    (None, ()),
    ("2.0.0", (("api", "2.0.0"), ("web", "2.0.0"))),
    ("2.0.0-2", (("api", "2.0.0-2"), ("web", "2.0.0-2"))),
    ("1.10", (("api", "1.10"), ("web", "1.10"))),
    ("web=2.0.0,api=1.4.1", (("api", "1.4.1"), ("web", "2.0.0"))),
    ("web=2.0.0", (("web", "2.0.0"),)),
    ("web=1:2.0~rc1-3", (("web", "1:2.0~rc1-3"),)),
    (["web=2.0.0", "api=1.4.1"], (("api", "1.4.1"), ("web", "2.0.0"))),
])
def test_a_version_is_for_all_components_or_for_those_named(typed, pairs):
    assert call.versions(typed, SITE) == pairs


def test_a_version_for_all_is_narrowed_by_component():
    assert call.versions("2.0.0", SITE, only=("web",)) == (("web", "2.0.0"),)
    assert sentence(call.versions, "api=2.0.0", SITE, only=("web",)) == \
        "--version: api is not among --component web; name it there too, or leave it out here"


@pytest.mark.parametrize("typed, said", [
    ("", "--version: empty selection; it wants a version such as 2.0.0"),
    ("2.0.0,1.0", '--version: "2.0.0" names no component; write one version for all, or api=2.0.0 for each'),
    ("web=2.0.0,1.0", '--version: "1.0" names no component; write one version for all, or api=2.0.0 for each'),
    ("wbe=2.0.0", '--version: inventories/good.yml has no component "wbe"; did you mean web?'),
    ("web=", "--version: no version after web=; write web=2.0.0"),
    ("=2.0.0", '--version: inventories/good.yml has no component ""; there are api, web'),
    ("web=1,web=2", "--version: web is there twice; name it once"),
    ("--yes", '--version: "--yes" begins with a dash'),
    ("2.0.0-rc1", "--version: version 2.0.0-rc1: '-' separates version and release"),
    ("web=2.0/0", "--version: version '2.0/0' is not one that RPM takes"),
    ("latest version", "--version: version 'latest version' is not one that RPM takes"),
])
def test_a_version_that_cannot_be_meant_is_named(typed, said):
    assert sentence(call.versions, typed, SITE).startswith(said)


def test_components_are_named_like_hosts():
    assert call.components(None, SITE) == ()
    assert call.components("web,api", SITE) == ("api", "web")
    assert call.component("web", SITE) == "web"
    assert sentence(call.components, "", SITE).startswith("--component: empty selection")
    assert sentence(call.components, "wbe", SITE) == '--component: inventories/good.yml has no component "wbe"; did you mean web?'
    assert sentence(call.component, None, SITE) == "--component is missing; type --component api|web"


def test_one_version_must_be_given_where_something_is_published():
    assert call.version("1.10") == "1.10"
    assert sentence(call.version, None) == "--version is missing; type --version 2.0.0"
    assert sentence(call.version, "web=2.0.0").startswith("--version: version 'web=2.0.0' is not one that RPM takes")


def test_whom_a_person_excludes_that_person_says_why():
    assert call.excluded(None, None, SITE) == call.excluded([], "disk", SITE) == ()
    assert call.excluded("green2", "disk", SITE) == (("green2", "disk"),)
    assert call.excluded(["green2", "blue1"], "disk is full", SITE) == (("green2", "disk is full"), ("blue1", "disk is full"))
    assert sentence(call.excluded, "green1,blue1", None, SITE) == \
        "--exclude needs --reason; type --reason and why green1 and blue1 must stay out"
    assert sentence(call.excluded, "green1", "", SITE).startswith("--reason is empty; it wants a few words")
    assert sentence(call.excluded, [""], "disk", SITE).startswith("--exclude: empty selection")
    assert sentence(call.excluded, "gren1", "disk", SITE).endswith("did you mean green1?")


def test_whom_a_person_excludes_is_of_the_stack_in_question_and_leaves_somebody_in_it():
    assert call.excluded("green2", "disk", SITE, "green") == (("green2", "disk"),)
    assert sentence(call.excluded, "blue1", "disk", SITE, "green").startswith("--exclude: blue1 belongs to stack blue, not to")
    assert sentence(call.excluded, "green1,green2", "disk", SITE).startswith("--exclude: no host of green is left")
    assert sentence(call.excluded, "green2", "disk", SITE, "green", ("green2",)).startswith("--exclude: no host of green is left")


def test_a_reason_is_one_line_of_a_sensible_length():
    assert call.reason(None) is None
    assert call.reason("OPS-12: disk swap, Grüße") == "OPS-12: disk swap, Grüße"
    assert sentence(call.reason, "a\nb").startswith('--reason: "a b" has a line break')
    assert sentence(call.reason, "x" * 501) == "--reason: 501 characters are too many; write at most 500"
    assert sentence(call.reason, True, "--override-hours") == "--override-hours has no value; it wants a few words"


@pytest.mark.parametrize("typed", ["1e3", "0x10", "1.5", "nan", "inf", "1_000", "١", "+1", "--yes", "-1", "", True, "9" * 13,
                                   "1 000"])
def test_a_whole_number_is_in_plain_digits(typed):
    assert sentence(call.whole, typed, "--floor").startswith("--floor")


def test_numbers_have_limits_and_may_be_left_out():
    assert call.whole(None, "--floor") is None
    assert call.whole("0", "--floor") == 0 and call.whole(7, "--floor") == 7
    assert sentence(call.whole, "0", "--rate", low=1) == '--rate: "0" is out of range; write a whole number from 1 to 1000000'
    assert sentence(call.whole, "-1", "--floor", high=9) == \
        '--floor: "-1" is not a whole number in plain digits; write one from 0 to 9'
    assert call.seconds("2.5", "--seconds") == 2.5
    assert sentence(call.seconds, "30s", "--seconds", high=60) == \
        '--seconds: "30s" is not a number of seconds in plain digits; write one from 0 to 60'


def test_a_choice_is_one_of_its_words():
    assert call.choice(None, ("approve", "stop")) is None
    assert call.choice("stop", ("approve", "stop")) == "stop"
    assert sentence(call.choice, "aprove", ("approve", "stop")) == '--choice: "aprove" is not known; did you mean approve?'


def test_a_run_is_named_by_its_id_and_never_by_a_path():
    assert call.run(None) is None
    assert call.run("20260801-101112-a1b2") == "20260801-101112-a1b2"
    for typed in ("../../etc", "a/b", "..", ".x", "a b", "", "--yes"):
        assert sentence(call.run, typed).startswith("--run")


@pytest.mark.parametrize("typed", ["", "green1:8080", "ftp://x", "http://", "http:///x", "http://a b", "http://u:p@x/", None,
                                   "http://x#y", "--yes", "http://x\\y", "file:///etc/passwd"])
def test_a_url_is_http_with_a_host_and_without_a_password(typed):
    said = sentence(call.url, typed)
    assert said.startswith("--url") and "u:p" not in said


def test_a_url_is_taken_as_typed():
    for typed in ("http://10.0.0.1:8080/heartbeat", "https://[fd77::1]/x?y=1", "http://green1"):
        assert call.url(typed) == typed


def test_a_path_is_not_empty_and_no_option():
    assert call.path(None, "--token-file") is None
    assert call.path("secrets/token", "--token-file") == "secrets/token"
    assert sentence(call.path, "-", "--token-file").startswith('--token-file: "-" begins with a dash')
    assert sentence(call.path, "a\0b", "--token-file").startswith("--token-file")


def test_an_environment_is_an_inventory_that_is_there(tmp_path):
    (tmp_path / "inventories").mkdir()
    for name in ("lab", "prod"):
        (tmp_path / "inventories" / f"{name}.yml").touch()
    (tmp_path / "secret.yml").touch()
    assert call.env(None, tmp_path, {}) == call.env(None, tmp_path, {"BGDEPLOY_ENV": ""}) == "lab"
    assert call.env(None, tmp_path, {"BGDEPLOY_ENV": "prod"}) == call.env("prod", tmp_path, {"BGDEPLOY_ENV": "lab"}) == "prod"
    assert sentence(call.env, "prdo", tmp_path, {}) == "--env: there is no inventories/prdo.yml; did you mean prod?"
    assert sentence(call.env, None, tmp_path, {"BGDEPLOY_ENV": "x"}) == \
        "BGDEPLOY_ENV: there is no inventories/x.yml; there are lab, prod"
    assert sentence(call.env, "../secret", tmp_path, {}) == \
        '--env: "../secret" cannot be an inventory\'s name; there are lab, prod'
    assert sentence(call.env, "", tmp_path, {}).startswith("--env is empty; it wants an inventory's name: lab, prod")
    assert sentence(call.env, "--yes", tmp_path, {}).startswith('--env: "--yes" begins with a dash')


ANY = strategies.one_of(strategies.none(), strategies.booleans(), strategies.text(), strategies.integers(),
                        strategies.lists(strategies.text(), max_size=3), strategies.text("green12,=-. \n", max_size=30))


@given(ANY)
@CALM
def test_whatever_is_typed_is_taken_or_refused_in_one_printable_sentence(typed):
    calls = [lambda: call.stack(typed, SITE), lambda: call.hosts(typed, SITE, "green"), lambda: call.components(typed, SITE),
             lambda: call.versions(typed, SITE), lambda: call.excluded(typed, typed, SITE), lambda: call.reason(typed),
             lambda: call.whole(typed, "--floor"), lambda: call.seconds(typed, "--seconds"), lambda: call.url(typed),
             lambda: call.run(typed), lambda: call.choice(typed, ("a", "b")), lambda: call.path(typed, "--file"),
             lambda: call.version(typed), lambda: call.env(typed, ".", {})]
    for attempt in calls:
        try:
            attempt()
        except BadInput as refused:
            assert refused.sentence.isprintable() and len(refused.sentence) < 600


@given(strategies.text())
@CALM
def test_hosts_that_were_typed_are_never_no_hosts(typed):
    try:
        assert call.hosts(typed, SITE, "green")
    except BadInput:
        pass
