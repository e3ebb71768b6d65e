"""What a drill is begun with, and which drill it goes on with."""

import pytest
from msgspec.structs import asdict

from benchmarks.drill_run import begun
from benchmarks.drilled import Drilled
from benchmarks.environment import head, with_head, write_now
from benchmarks.scenario import Plan
from broker.errors import FogError

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
