"""What the inventory accepts, what it makes of it, and what it says to what it refuses."""

import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from bgdeploy import inventory, model, site, soundness
from bgdeploy.errors import BadInput

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent / "inventories"
GOOD = (HERE / "good.yml").read_text(encoding="utf-8")


def cases():
    """(title, changed text, sentence) of each block in bad.txt."""
    for block in (HERE / "bad.txt").read_text(encoding="utf-8").split("\n\n")[1:]:
        title, *lines = block.strip("\n").split("\n")
        text = GOOD
        place, indent, before = None, "", ""
        for line in lines:
            mark, rest = line[:1], line[2:]
            if mark == "-":
                found = re.search(rf"^( *){re.escape(rest)}\n", text, re.MULTILINE)
                assert found, f"{title}: good.yml has no line {rest!r}"
                if before != "-":
                    place, indent = found.start(), found[1]
                text = text[:found.start()] + text[found.end():]
            elif mark == "+":
                added = indent + rest + "\n"
                at = len(text) if place is None else place
                text = text[:at] + added + text[at:]
                place = None if place is None else at + len(added)
            before = mark
        yield title, text, "\n".join(line[2:] for line in lines if line.startswith(">"))


@pytest.fixture
def read(tmp_path):
    """Write an inventory and read it."""
    (tmp_path / "inventories").mkdir()

    def write_and_read(text, name="x", **more):
        path = tmp_path / "inventories" / f"{name}.yml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return inventory.read(path, tmp_path, **more)
    return write_and_read


@pytest.mark.parametrize("title, text, sentence", [pytest.param(*c, id=c[0]) for c in cases()])
def test_bad_input_gets_one_sentence_with_file_line_key_and_cure(read, title, text, sentence):
    with pytest.raises(BadInput) as caught:
        read(text)
    assert caught.value.sentence == sentence
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content, sentence", [
    (b"", "inventories/x.yml:1: this is no inventory; it wants keys such as components, stacks and balancers "
          "(inventories/sample.yml shows all)"),
    (b"# only a comment\n", "inventories/x.yml:1: this is no inventory"),
    (b"- a\n- b\n", "inventories/x.yml:1: this is no inventory"),
    (b"green\n", "inventories/x.yml:1: this is no inventory"),
    (b"name: caf\xe9\n", "inventories/x.yml:1: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    (b"# a\nname: x\n\xff\xfe", "inventories/x.yml:3: byte 0xff is not UTF-8; save the file as UTF-8"),
    ("name: x\n".encode("utf-16"), "inventories/x.yml:1: byte 0xff is not UTF-8; save the file as UTF-8"),
    (b"name: x\0\n", "inventories/x.yml:1: an invisible character, U+0000; delete it or type an ordinary space"),
    (b"name: x\rkind: lab\n", "inventories/x.yml:1: an invisible character, U+000D; delete it or type an ordinary space"),
    (b"# " + b"x" * 300_000, "inventories/x.yml:1: the file has more than 262144 bytes; is it an inventory?"),
])
def test_a_file_that_is_no_inventory_is_refused_as_a_whole(read, content, sentence):
    with pytest.raises(BadInput) as caught:
        read(content)
    assert caught.value.sentence.startswith(sentence)


def test_a_byte_order_mark_and_windows_line_ends_are_harmless(read):
    assert read(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()).components[0].name == "api"


def test_a_flip_by_a_method_without_content_has_no_body_unless_one_is_written(read):
    for written, body in (("flip_method: GET", ""), ("flip_method: DELETE", ""), ("flip_method: POST", "{word}"),
                          ('flip_method: DELETE, flip_body: "to={word}"', "to={word}")):
        text = GOOD.replace("api: {port: 8081}", f"api: {{port: 8081, heartbeat: {{flip_path: '/{{word}}', {written}}}}}")
        assert read(text).component("api").heartbeat.flip_body == body


def test_an_alias_bomb_is_refused_at_its_first_anchor(read):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefghijklmnop", "bcdefghijklmnopq"):
        bomb += f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    with pytest.raises(BadInput, match=r"x.yml:1: a word that begins with & is an anchor"):
        read(bomb)


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? ", " ", "'", "x", "!", "k: 1\n", "\\U"])
def test_a_file_made_to_be_slow_costs_no_more_than_a_long_one(read, piece):
    with pytest.raises(BadInput):
        read("a: " + piece * (200_000 // len(piece)))


def test_words_that_yaml_takes_for_booleans_are_names_of_stacks_and_hosts(read):
    site = read(GOOD.replace("green:", "no:").replace("blue:", "on:").replace("blue1, blue2", "yes, Off"))
    assert [stack.name for stack in site.stacks] == ["no", "on"]
    assert [host.name for host in site.stack("on").hosts] == ["yes", "Off"]


def test_two_hosts_may_share_an_address_with_different_ports_and_a_person_is_told(read):
    text = GOOD.replace("{address: 10.0.0.11}", "{address: 10.0.0.1, port: 2211}")
    text = text.replace("{address: 10.0.0.12}", '{address: "10.0.0.1:2212"}')
    site = read(text)
    assert [(h.address, h.port) for h in site.stack("green").hosts] == [("10.0.0.1", 2211), ("10.0.0.1", 2212)]
    assert "green1 and green2 share the address 10.0.0.1" in soundness.warnings(site)[0]
    through_ssh = text.replace("port: 8081", "port: 8081, heartbeat: {via: ssh}")
    through_ssh = through_ssh.replace("    port: 8080", "    port: 8080\n    heartbeat: {via: ssh}")
    assert soundness.warnings(read(through_ssh)) == ()


@pytest.mark.parametrize("typed, address, port", [
    ("fd77::11", "fd77::11", 22), ("[fd77::12]:2222", "fd77::12", 2222), ("[fd77::12]", "fd77::12", 22),
    ("fd77::2222", "fd77::2222", 22), ("FD77:0::1", "fd77::1", 22), ("::1", "::1", 22), ("::ffff:10.0.0.1", "::ffff:a00:1", 22),
    ("10.0.0.1", "10.0.0.1", 22), ("10.0.0.1:2222", "10.0.0.1", 2222), ("GREEN1.lab", "GREEN1.lab", 22),
    ("green1.lab.:2222", "green1.lab.", 2222), ("1a", "1a", 22), ("a_b-c", "a_b-c", 22)])
def test_addresses_are_names_or_ip_with_and_without_a_port(read, typed, address, port):
    host = read(GOOD.replace("address: 10.0.0.11", f'address: "{typed}"')).host("green1")
    assert (host.address.replace("::ffff:10.0.0.1", "::ffff:a00:1"), host.port) == (address, port)


def test_what_is_left_out_has_a_default(read):
    site = read(GOOD)
    web, green1 = site.component("web"), site.host("green1")
    assert (web.package, web.service, web.recipe, web.port, web.heartbeat.port) == ("web", "web", "web", 8080, 8080)
    assert (green1.address, green1.port, green1.user, green1.components) == ("10.0.0.11", 22, None, ("api", "web"))
    assert site.host("blue1").address == "blue1"
    assert (site.name, site.lab, site.production, site.accept, site.versions) == ("x", None, False, (), ())
    assert site.policy.order == ("api", "web") and site.policy.floor == ()
    assert site.policy == model.Policy(order=("api", "web"), detection=7.0)
    assert site.live.ports == site.standby.ports == (("api", 8081), ("web", 8080))


def test_paths_start_at_the_projects_folder_not_where_the_shell_stands(read, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    site = read(GOOD + "ssh: {identity: keys/id, known_hosts: /etc/ssh/known}\nstore: file:state\nchef: {path: ../cookbooks}\n")
    assert site.ssh.identity == str(tmp_path / "keys/id")
    assert site.ssh.known_hosts == "/etc/ssh/known"
    assert site.store == f"file:{tmp_path}/state"
    assert site.chef.path == str(tmp_path.parent / "cookbooks")
    assert site.hooks == str(tmp_path / "hooks")


def test_the_default_store_goes_where_the_state_goes(read, tmp_path):
    assert read(GOOD, environ={}).store == f"file:{tmp_path}/.bgdeploy/store"
    assert read(GOOD, environ={"BGDEPLOY_STATE": "/var/lib/bg"}).store == "file:/var/lib/bg/store"
    assert read(GOOD + "store: mongodb://10.0.0.9/bg\n", environ={}).store == "mongodb://10.0.0.9/bg"


def test_components_are_kept_in_the_order_in_which_they_go_live(read):
    site = read(GOOD.replace("green1: {address: 10.0.0.11}", "green1: {components: [api, web]}") + "order: [web, api]\n")
    assert [c.name for c in site.components] == ["web", "api"]
    assert site.host("green1").components == ("web", "api")
    assert site.policy.order == ("web", "api")


def test_detection_is_the_slowest_node_of_either_balancer_and_soak_waits_for_slow_start(read):
    text = GOOD.replace("{address: 10.0.0.5}", "{address: 10.0.0.5, interval: 5, fall: 4, timeout: 3, slow_start: 20}")
    assert read(text).policy.detection == 23
    assert read(text).policy.soak == 20
    assert read(text + "soak: 60\n").policy.soak == 60


def test_a_floor_for_all_is_one_for_each_component(read):
    assert read(GOOD + "floor: 2\n").policy.floor == (("api", 2), ("web", 2))
    assert read(GOOD + "floor: {web: 1}\n").policy.floor == (("web", 1),)
    assert read(GOOD + "floor: 3\nwave: 50%\n").policy.wave == "50%"


def test_closed_hours_over_midnight_become_two(read):
    closed = read(GOOD + 'closed_hours: [{days: [sun, fri], from: "22:00", to: "06:30", zone: Europe/Berlin}]\n').policy.closed
    assert closed == (model.Closed((4, 6), 1320, 1440, "Europe/Berlin"), model.Closed((0, 5), 0, 390, "Europe/Berlin"))
    every_day = (0, 1, 2, 3, 4, 5, 6)
    assert read(GOOD + "closed_hours: [{from: 08:00, to: 24:00}]\n").policy.closed == (model.Closed(every_day, 480, 1440),)
    assert read(GOOD + "closed_hours: [{from: 22:00, to: 00:00}]\n").policy.closed == (model.Closed(every_day, 1320, 1440),)


def test_the_driver_waits_longer_for_chef_than_a_host_lets_it_run(read):
    assert read(GOOD).policy.limits.chef == 1200
    assert read(GOOD + "chef: {limit: 3600}\n").policy.limits.chef == 3600 + 60 + 240
    assert read(GOOD + "chef: {limit: 3600}\nlimits: {chef: 3700}\n").policy.limits.chef == 3700


def test_a_heartbeat_without_the_kit_has_no_detail_view_and_says_so(read):
    text = GOOD.replace("port: 8081", "port: 8081, heartbeat: {detail: none, token_env: API_TOKEN}") + "token_file: token\n"
    api, web = read(text).components
    assert (api.heartbeat.detail, api.heartbeat.in_flight, api.heartbeat.token) == (None, "none", site.Secret(env="API_TOKEN"))
    assert web.heartbeat.in_flight == "kit" and web.heartbeat.token.file.endswith("/token")


def test_versions_in_quotes_are_kept_as_typed(read):
    assert read(GOOD + 'versions: {web: "1.10", api: 2.0.0-1}\n').versions == (("web", "1.10"), ("api", "2.0.0-1"))


def test_one_stack_is_legal_and_warned_of(read):
    site = read(GOOD.replace("  blue:\n    hosts: [blue1, blue2]\n", "") + "floor: 0\n")
    said = soundness.warnings(site)
    assert said[0] == "inventories/x.yml: there is one stack, green: nothing else can serve while it is out"
    assert "floor 0 for api" in said[1]


def test_a_copy_that_kept_its_old_name_is_warned_of(read):
    assert soundness.warnings(read(GOOD + "name: lab\n", "prod")) == (
        "inventories/prod.yml: locks and reports call this lab; two inventories with one name would share them",)
    assert soundness.warnings(read(GOOD + "name: prod\n", "prod")) == ()


def test_a_version_that_looks_like_a_pre_release_and_is_none_is_warned_of(read):
    assert "2.0.0~rc1" in soundness.warnings(read(GOOD + "versions: {web: 2.0.0_rc1}\n"))[0]


def test_production_is_content_with_a_lock_host_or_a_shared_store(read):
    assert read(GOOD + "production: true\nlock_host: green1\n").lock_host == "green1"
    assert read(GOOD + "production: true\nstore: mongodb://10.0.0.9/bg\n").production


def test_all_that_is_wrong_is_listed_on_request(read, tmp_path):
    path = tmp_path / "inventories" / "x.yml"
    path.write_text(GOOD + "soack: 3\nwave: 0\n")
    assert inventory.problems(path, tmp_path) == (
        "inventories/x.yml:18: soack: there is no such key; did you mean soak?",
        "inventories/x.yml:19: wave: 0 is out of range; it wants a number of hosts from 1")
    path.write_text(GOOD)
    assert inventory.problems(path, tmp_path) == ()
    path.write_text("name: x\n")
    assert [p.partition(";")[0] for p in inventory.problems(path, tmp_path)] == [
        "inventories/x.yml:1: components: is missing", "inventories/x.yml:1: stacks: is missing",
        "inventories/x.yml:1: balancers: is missing"]
    path.write_text("".join(f"key{n}: x\n" for n in range(5000)))
    assert len(inventory.problems(path, tmp_path)) == 53
    path.write_text("a: *b")
    assert len(inventory.problems(path, tmp_path)) == 1


def test_a_name_that_is_not_there_lists_what_there_is(read, tmp_path):
    read(GOOD, "prod")
    read(GOOD, "lab")
    assert inventory.names(tmp_path) == ["lab", "prod"]
    assert inventory.load("lab", tmp_path).name == "lab"
    for name, sentence in [("prdo", "there is no inventories/prdo.yml; did you mean prod?"),
                           ("x", "there is no inventories/x.yml; there are lab, prod"),
                           ("../lab", '"../lab" cannot be an inventory\'s name; there are lab, prod'),
                           ("/etc/passwd", '"/etc/passwd" cannot be an inventory\'s name; there are lab, prod'),
                           ("", '"" cannot be an inventory\'s name; there are lab, prod'),
                           ("lab\n", '"lab?" cannot be an inventory\'s name; there are lab, prod'),
                           ("--yes", '"--yes" cannot be an inventory\'s name; there are lab, prod')]:
        with pytest.raises(BadInput) as caught:
            inventory.load(name, tmp_path)
        assert caught.value.sentence == sentence


def test_a_folder_a_pipe_and_an_unreadable_file_are_refused_without_waiting(tmp_path):
    (tmp_path / "inventories" / "a.yml").mkdir(parents=True)
    os.mkfifo(tmp_path / "inventories" / "b.yml")
    (tmp_path / "inventories" / "c.yml").symlink_to("gone.yml")
    (tmp_path / "inventories" / "d.yaml").touch()
    for name, sentence in [("a", "a.yml:1: not a regular file"), ("b", "b.yml:1: not a regular file"),
                           ("c", "c.yml: cannot be read: No such file"), ("d", "d.yaml is not read; call it d.yml")]:
        with pytest.raises(BadInput, match=re.escape(sentence)):
            inventory.load(name, tmp_path)


def test_without_any_inventory_it_says_so(tmp_path):
    with pytest.raises(BadInput, match="there is no inventories/lab.yml; there are none"):
        inventory.load("lab", tmp_path)


def test_the_lab_has_four_hosts_two_live_nodes_and_one_standby_node():
    lab = inventory.load("lab", ROOT)
    assert [h.address for h in lab.hosts] == ["10.77.0.11", "10.77.0.12", "10.77.0.21", "10.77.0.22"]
    assert [n.address for n in lab.live.nodes] == ["10.77.0.3", "10.77.0.4"]
    assert lab.policy.detection == 4.0 and lab.watch_rate == 300
    assert lab.lab is not None and soundness.warnings(lab) == ()


def test_the_schema_is_a_schema_and_takes_what_the_loader_takes():
    document = inventory.schema()
    jsonschema.Draft7Validator.check_schema(document)
    for name in inventory.names(ROOT):
        loaded = yaml.safe_load((ROOT / "inventories" / f"{name}.yml").read_text(encoding="utf-8"))
        jsonschema.Draft7Validator(document).validate(loaded)
    assert json.loads(json.dumps(document)) == document
    document["title"] = "changed"
    assert inventory.schema()["title"] == "bgdeploy inventory"


def test_basic_authentication_takes_the_place_of_the_common_token(read):
    text = GOOD.replace("port: 8081", "port: 8081, heartbeat: {user: deploy, password_env: API}") + "token_file: token\n"
    api, web = read(text).components
    assert (api.heartbeat.token, api.heartbeat.user, api.heartbeat.password) == (None, "deploy", site.Secret(env="API"))
    assert web.heartbeat.token
