"""Versions are ordered as RPM orders them; its own library is the oracle where it is installed."""

import pytest
from hypothesis import given, settings, strategies as st

from bgdeploy import versions
from bgdeploy.errors import BadInput

rpm = pytest.importorskip("rpm", reason="RPM's own order (Debian package python3-rpm) is the oracle of these tests")

RUNS = st.lists(st.sampled_from(["0", "1", "2", "10", "01", "9", "a", "b", "rc", "RC", "alpha", ".", "_", "+", "~", "^", "~~",
                                 "^^", ".."]),
                min_size=1, max_size=7).map("".join)
VERSION = st.builds(lambda first, rest: first + rest, st.sampled_from(["0", "1", "2", "10", "a"]), RUNS)
RELEASE = st.builds(lambda first, rest: first + rest, st.sampled_from(["1", "2", "0"]), st.one_of(st.just(""), RUNS))


@st.composite
def full(draw):
    epoch = draw(st.sampled_from(["", "", "0:", "1:", "2:"]))
    release = draw(st.one_of(st.just(""), RELEASE.map(lambda r: "-" + r)))
    return epoch + draw(VERSION) + release


def oracle(a, b):
    def split(text):
        epoch, version, release = versions.parts(text)
        return str(epoch), version, release or None
    return rpm.labelCompare(split(a), split(b))


@settings(max_examples=600, deadline=None)
@given(full(), full())
def test_the_order_is_rpms(a, b):
    assert versions.compare(a, b) == oracle(a, b)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="01289abzAZ.~^_+-", min_size=1, max_size=12),
       st.text(alphabet="01289abzAZ.~^_+-", min_size=1, max_size=12))
def test_any_text_is_ordered_as_rpm_orders_it(a, b):
    assert versions._compare_text(a, b) == rpm.labelCompare(("0", a, "1"), ("0", b, "1"))


@settings(max_examples=100, deadline=None)
@given(st.lists(full(), min_size=1, max_size=6))
def test_newest_is_one_of_them_and_no_other_is_newer(given_versions):
    best = versions.newest(given_versions)
    assert best in given_versions and all(versions.compare(best, other) >= 0 for other in given_versions)


def test_newest_of_nothing_is_nothing():
    assert versions.newest([]) is None


@pytest.mark.parametrize("lower, higher", [
    ("2.0.0~rc1-1", "2.0.0-1"), ("1.9-1", "1.10-1"), ("3.0-1", "1:2.0-1"), ("2.0.0-1", "2.0.0_rc1-1"), ("2.0.0-1", "2.0.0-2"),
    ("2.0.0-9", "2.0.0-10"), ("2.0.0-1", "2.0.0^git1-1"), ("2.0.0^git1-1", "2.0.0.1-1")])
def test_the_lower_one_is_lower(lower, higher):
    assert versions.compare(lower, higher) == -1 and versions.compare(higher, lower) == 1


@pytest.mark.parametrize("typed, kept", [
    ("2.0.0", "2.0.0"), ("2.0.0-1", "2.0.0-1"), ("1:2.0", "1:2.0"), ("0:2.0", "2.0"), ("2.0.0~rc1", "2.0.0~rc1"),
    ("1.10", "1.10"),
    ("2.0.0+build5", "2.0.0+build5"), ("2.0.0-1.el9", "2.0.0-1.el9"), ("01:2.0", "1:2.0")])
def test_a_good_version_is_kept_as_rpm_writes_it(typed, kept):
    assert versions.check(typed) == kept


@pytest.mark.parametrize("typed, cure",
                         [("2.0.0-rc1", "2.0.0~rc1"), ("2.0.0-beta.2", "2.0.0~beta.2"), ("1:2.0-alpha", "1:2.0~alpha")])
def test_a_pre_release_with_a_dash_is_refused_with_what_to_type(typed, cure):
    with pytest.raises(BadInput) as refusal:
        versions.check(typed)
    assert f"type {cure} " in refusal.value.sentence and "sorts before" in refusal.value.sentence


@pytest.mark.parametrize("typed",
                         ["", "-", "--yes", "2.0.0 ", " 2.0.0", "2.0.0\n", "2/0", "../x", "2.0.0;id", "2,0", "$(id)", "२.0",
                          "2.0\x00",
                                   "x:1", ":1", "1:", "a" * 101, "2.0.0-1-2", "2.0.0-", "~1", "web-2.0.0-1", None, 1.1,
                                   "2..0", "2.0-1..1", "2.0.0-2026-01-01"])
def test_what_rpm_would_not_take_is_refused_in_one_sentence(typed):
    with pytest.raises(BadInput) as refusal:
        versions.check(typed)
    assert "\n" not in refusal.value.sentence and "\x00" not in refusal.value.sentence and len(refusal.value.sentence) < 400


def test_only_what_looks_like_a_pre_release_is_called_one():
    for typed in ("2.0.0-1-2", "web-2.0.0-1", "2..0-rc1"):
        with pytest.raises(BadInput) as refusal:
            versions.check(typed)
        assert "pre-release" not in refusal.value.sentence and "write [EPOCH:]VERSION[-RELEASE]" in refusal.value.sentence


@pytest.mark.parametrize("typed, full_version, same", [
    ("2.0.0", "2.0.0-1", True), ("2.0.0", "2.0.0-7", True), ("2.0.0-1", "2.0.0-1", True), ("2.0.0-1", "2.0.0-2", False),
    ("2.0", "1:2.0-1", False),
    ("1:2.0", "1:2.0-1", True), ("2.0.0", "2.0.0~rc1-1", False), ("1.0", "1.00-1", True), ("1.1", "1.10-1", False)])
def test_a_typed_version_means_these(typed, full_version, same):
    assert versions.same_version(typed, full_version) is same


@pytest.mark.parametrize("version, warned",
                         [("2.0.0_rc1", True), ("2.0.0rc1-1", True), ("2.0.0.beta2", True), ("2.0.0~rc1", False),
                          ("2.0.0", False),
                          ("2.0.0^rc1", True), ("1.0.architect", False),
                          ("rc1", True), ("v2.0", True), ("latest-1", True), ("1:main", True)])
def test_a_version_that_sorts_otherwise_than_it_looks_is_pointed_out(version, warned):
    assert bool(versions.misleading(version)) is warned
