"""What `segue methods` says is what building says."""

import io
import json
import re

import pytest
from rich.console import Console

from agent.bridges import bridge_names, find_bridge
from agent.methods import find_method, method_names
from launch import show
from launch.build import offline_phase, online_plan
from launch.catalogue import ROLLOUT, methods
from launch.presets import PRESETS
from launch.recipes import Offline, Online


@pytest.fixture(scope="module")
def listed() -> dict[str, list[dict]]:
    return methods()


@pytest.fixture(scope="module")
def text(listed) -> str:
    """What people see, in a wide terminal."""
    file = io.StringIO()
    Console(file=file, width=400).print(show._as_table(listed))
    return file.getvalue()


def by_name(rows: list[dict]) -> dict[str, dict]:
    return {row["name"]: row for row in rows}


def test_it_is_plain_data(listed):
    assert json.loads(json.dumps(listed)) == listed


def test_every_method_says_what_it_is(listed):
    assert [row["name"] for row in listed["methods"]] == method_names()
    for name, row in by_name(listed["methods"]).items():
        method = find_method(name)
        assert row["what"].endswith(".")
        assert row["groups"].split(", ") == list(method.updated)
        assert row["coef"] == method.coef


@pytest.mark.parametrize("name", method_names())
def test_where_a_method_can_be_used_is_where_building_takes_it(listed, name):
    row = by_name(listed["methods"])[name]
    builds = {
        "offline": lambda: offline_phase(Offline(name)),
        "online": lambda: online_plan(Online(name, block=ROLLOUT)),
    }
    for where, build in builds.items():
        if row[where] is True:
            build()
        else:
            assert isinstance(row[where], str)
            with pytest.raises(ValueError, match=re.escape(row[where])):
                build()


def test_what_some_methods_say(listed):
    rows = by_name(listed["methods"])
    assert "learns nothing from rewards" in rows["bc"]["online"]
    assert "nothing in it holds a policy to a data set" in rows["so2"]["offline"]
    assert (rows["sac"]["offline"], rows["sac"]["online"]) == (True, True)
    acts = {name: row["acts"] for name, row in rows.items()}
    assert (acts["sac"], acts["iql"]) == ("samples", "samples")
    assert (acts["td3"], acts["td3bc"]) == ("its mode with noise", "its mode with noise")
    assert rows["bc"]["needs"] == []
    assert rows["ppo"]["needs"] == ["rollouts of its own policy, in lockstep"]
    assert rows["calql"]["needs"] == ["a moving copy of critic"]
    assert rows["td3"]["needs"] == ["a moving copy of critic", "a moving copy of actor"]


@pytest.mark.parametrize(
    ("name", "taken_over", "share", "first"),
    [
        ("direct", ["critic", "actor", "temperature"], 0.0, {}),
        ("warm_up", ["critic", "actor", "temperature"], 0.0, {"warm-up": 5_000}),
        ("retain", ["critic", "actor", "temperature"], 0.5, {}),
        ("anneal", ["critic", "actor", "temperature"], 0.25, {"warm-up": 5_000}),
        ("policy_only", ["actor", "temperature"], 0.0, {"critics": 5_000}),
        ("jump_start", ["actor", "temperature"], 0.0, {}),
        ("rlpd", [], 0.5, {}),
        ("scratch", [], 0.0, {"random": 5_000}),
    ],
)
def test_what_a_bridge_starts_from(listed, name, taken_over, share, first):
    needs = by_name(listed["bridges"])[name]["needs"]
    assert needs == {"offline_result": taken_over, "offline_data": share, "first": first}


def test_every_bridge_says_what_it_is(listed):
    assert [row["name"] for row in listed["bridges"]] == bridge_names()
    for name, row in by_name(listed["bridges"]).items():
        assert row["what"].endswith(".")
        assert find_bridge(name, row["settings"]) == find_bridge(name)


@pytest.mark.parametrize("bridge", bridge_names())
def test_what_is_refused_is_listed_and_nothing_else(listed, bridge):
    reasons = {row["online"]: row["reason"] for row in listed["refusals"] if row["bridge"] == bridge}
    assert {"bc", "calql_cloned"} <= set(reasons)
    assert not {"sac", "calql", "td3"} & set(reasons)
    # What makes a critic ready for a policy to climb is in vain for one that clones.
    assert ("iql" in reasons) == (bridge in ("reconstruct", "clone"))
    for online in method_names():
        if online in reasons:
            with pytest.raises(ValueError, match=f"^{re.escape(reasons[online])}$"):
                online_plan(Online(online, bridge=bridge, block=ROLLOUT))
        else:
            assert online_plan(Online(online, bridge=bridge, block=ROLLOUT))[-1].method is not None


def test_an_on_policy_method_takes_only_bridges_without_stored_data(listed):
    reasons = {row["bridge"]: row["reason"] for row in listed["refusals"] if row["online"] == "ppo"}
    assert set(bridge_names()) - set(reasons) == {"direct", "warm_up", "scratch", "reconstruct", "clone"}
    assert "no critic to choose by" in reasons.pop("expansion")
    assert all("learns on-policy" in reason for reason in reasons.values()), reasons


def test_no_refusal_is_listed_twice(listed):
    pairs = [(row["bridge"], row["online"]) for row in listed["refusals"]]
    assert len(set(pairs)) == len(pairs)


def test_a_bridge_that_refuses_a_method_is_heard(monkeypatch):
    """One more reason of a bridge's own, beside those of the methods."""
    from agent.bridges import warm_up

    def refuse(self, offline, online):
        if "value" in online.method.updated:
            raise ValueError("bridge 'warm_up': a reason of its own; choose another")
        return offline, online

    monkeypatch.setattr(warm_up.Bridge, "__call__", refuse)
    found = [row for row in methods()["refusals"] if row["reason"].startswith("bridge 'warm_up'")]
    assert {(row["bridge"], row["online"]) for row in found} == {
        ("warm_up", "iql"),
        ("anneal", "iql"),
        ("warm_up", "ppo"),
        ("anneal", "ppo"),
    }


def test_presets_are_listed_with_tasks_and_source(listed):
    assert [row["name"] for row in listed["presets"]] == list(PRESETS)
    for name, row in by_name(listed["presets"]).items():
        assert row["tasks"] == list(PRESETS[name].tasks)
        assert row["source"] == PRESETS[name].source


def test_people_see_all_of_it(listed, text):
    for kind in ("methods", "bridges", "presets"):
        for row in listed[kind]:
            assert row["name"] in text
    for row in listed["refusals"]:
        assert row["reason"] in text
    for word in ("its mode with noise", "a moving copy of critic", "offline_result"):
        assert word in text
