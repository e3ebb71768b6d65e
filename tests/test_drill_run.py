"""What a drill is begun with, and which drill it goes on with."""

import pytest
from msgspec.structs import asdict

from benchmarks.drill_run import Wish, begun, plan_of
from benchmarks.drilled import Drilled
from benchmarks.environment import head, with_head, write_now
from benchmarks.place import Place
from benchmarks.scenario import Plan
from broker.errors import FogError
from provisioning.plug import parse_plug

PLAN = Plan(mode="random", reliability={"f1": 0.9}, every_s=5.0)
SAME = {"bundle": "b", "emulated": "every node is a process on this machine", "fleet": "house", "rate": 200.0}


def fresh(plan=PLAN, planned_s=60.0):
    return Drilled(plan=plan, order=("f1",), planned_s=planned_s)


@pytest.fixture
def file(tmp_path):
    """A drill that was ended half-way."""
    half = begun(tmp_path / "d.json", fresh(), SAME)
    half.elapsed_s, half.sittings = 30.0, 1
    write_now(tmp_path / "d.json", with_head(head(emulated=SAME["emulated"]), {**SAME, **asdict(half)}))
    return tmp_path / "d.json"


def test_a_drill_goes_on_where_it_was_ended(file):
    found = begun(file, fresh(planned_s=90.0), SAME)
    assert (found.elapsed_s, found.sittings, found.planned_s) == (30, 1, 90)


@pytest.mark.parametrize(("key", "value"), [("bundle", "c"), ("emulated", ""), ("fleet", "home"), ("rate", 50.0)])
def test_a_drill_does_not_go_on_under_other_conditions(file, key, value):
    with pytest.raises(FogError, match=f"holds another drill, with another {key}: name another file"):
        begun(file, fresh(), {**SAME, key: value})


def test_a_drill_does_not_go_on_by_another_plan(file):
    with pytest.raises(FogError, match="holds another drill, with another plan: name another file"):
        begun(file, fresh(Plan(mode="by-hand")), SAME)


WISH = Wish(None, True, None, 0, "hazardous", 5.0, None, None, 10.0, 60.0)
THERE = Place("mqtt://10.0.0.1", "house", None, False, None, ())
PLUGS = {"f1": parse_plug("mqtt://10.0.0.2/cmnd/plug1/POWER", "f1")}
ONE_PLUG = THERE._replace(verbs=("power",), plugs=PLUGS)
CARRIED = THERE._replace(verbs=("unplug", "kill"), carriers=frozenset({"e1"}))


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        (ONE_PLUG, "power: name the plug of f2, e1; or choose another --by, or a --setting in which none of these"),
        (CARRIED, "unplug: e1 is on a device with a broker, .*goes elsewhere; or choose another --by"),
    ],
)
def test_chance_that_would_draw_what_cannot_be_done_is_refused_before_it_begins(bundle, place, complaint):
    with pytest.raises(FogError, match=complaint):
        plan_of(WISH, place, bundle.manifest)


def test_chance_may_draw_what_can_be_done(bundle):
    plan, _ = plan_of(WISH._replace(by="kill"), CARRIED, bundle.manifest)
    assert (plan.by, min(plan.reliability.values()) < 1) == ("kill", True)


@pytest.mark.parametrize(
    ("place", "what", "node", "complaint"),
    [
        (ONE_PLUG, "power", "f2", "power: name the plug of f2"),
        (CARRIED, "unplug", "e1", "unplug: e1 is on a device with a broker"),
    ],
)
def test_a_scenario_with_what_cannot_be_done_is_refused_before_it_begins(
    bundle, tmp_path, place, what, node, complaint
):
    file = tmp_path / "s.toml"
    wish = WISH._replace(scenario=file, random=False)
    file.write_text(f'events = [{{ at = 1, do = "{what}", node = "f1" }}, {{ at = 2, do = "back", node = "e1" }}]')
    assert plan_of(wish, place, bundle.manifest)[1] == 12
    file.write_text(f'events = [{{ at = 1, do = "{what}", node = "{node}" }}]')
    with pytest.raises(FogError, match=f"{complaint}.*; or leave that out of .*s.toml"):
        plan_of(wish, place, bundle.manifest)
