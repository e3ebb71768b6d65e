"""Traces of several nodes put together: stages, wires and the waterfall of one step."""

import pytest

from benchmarks.clocks import Offset
from benchmarks.hosts import Look, summarised
from benchmarks.probe import Fed
from benchmarks.stages import Batch, quantiles, stages_ms, waterfall, wires_ms
from edge_agent.host import Host
from edge_agent.trace import StepTrace

MS = 1_000_000
NODES = ("e1", "f2", "f1", "cloud")
AHEAD = {"e1": 0, "f2": 50_000 * MS, "f1": -7 * MS, "cloud": 1 * MS}
ERROR = 100_000


def step(number, begun_ns, *, slow=1):
    """Everybody takes 1 ms to infer (f1: `slow`) and 0.1 to publish, a wire 0.5; waits follow."""
    fed = begun_ns, begun_ns + MS // 5
    published, traces = {"iot": fed[1]}, {}
    for node, sources in (("e1", ["iot"]), ("f2", ["iot", "e1"]), ("f1", ["e1", "f2"]), ("cloud", ["f2", "f1"])):
        came = {source: published[source] + MS // 2 for source in sources}
        opened = fed[1] + MS // 2 if node == "cloud" else min(came.values())
        infer = (slow if node == "f1" else 1) * MS
        closed = max(came.values()) - opened
        arrived = {source: at - opened for source, at in came.items()}
        trace = StepTrace(number, opened + AHEAD[node], arrived, closed, closed + infer, closed + infer + MS // 10)
        traces[node] = trace
        published[node] = opened + trace.published
    return Fed(number, *fed, published["cloud"] + MS // 2), traces


@pytest.fixture
def batch():
    steps = [step(number, 10**12 + number * 20 * MS, slow=number + 1) for number in range(3)]
    traces = {node: {fed.step: told[node] for fed, told in steps} for node in NODES}
    clocks = {node: Offset(ahead - ERROR, ahead + ERROR) for node, ahead in AHEAD.items()}
    return Batch([fed for fed, _ in steps], traces, clocks)


def test_each_stage_is_timed_on_its_nodes_own_clock(batch, bundle):
    found = stages_ms([batch], bundle.manifest)
    assert found["f1"]["infer"]["p50"] == 2
    assert found["e1"]["infer"]["p99"] == 1
    assert found["f2"]["publish"]["p50"] == pytest.approx(0.1)
    assert found["e1"]["wait"]["p50"] == 0
    assert found["f2"]["wait"]["p50"] == pytest.approx(1.6)  # e1: wire, inference, publishing


def test_a_wire_between_two_clocks_carries_the_errors_of_both(batch, bundle):
    found = wires_ms([batch], bundle.manifest)
    assert set(found) == {"iot>e1", "iot>f2", "e1>f2", "e1>f1", "f2>f1", "f2>cloud", "f1>cloud", "cloud>feeder"}
    for name, each in found.items():
        assert each["p50"] == pytest.approx(0.5), name
    assert found["iot>e1"]["error"] == found["cloud>feeder"]["error"] == pytest.approx(0.1)
    assert found["f2>f1"]["error"] == pytest.approx(0.2)


def test_the_waterfall_is_of_the_median_step_in_the_order_of_the_topology(batch, bundle):
    took_ms, bars = waterfall([batch], bundle.manifest)
    assert took_ms == batch.fed[1].ms
    assert [bar.node for bar in bars] == list(NODES)
    assert [bar.source for bar in bars] == ["iot", "iot", "e1", "feeder"]
    for bar in bars:
        assert bar.opened_ms - bar.wire_from_ms == pytest.approx(0.5, abs=1e-3)
        assert bar.opened_ms <= bar.closed_ms < bar.inferred_ms < bar.published_ms < took_ms
    f2, f1 = bars[1:3]
    assert f1.closed_ms == pytest.approx(f2.published_ms + 0.5, abs=1e-3)
    assert f1.inferred_ms - f1.closed_ms == pytest.approx(2)


def test_what_a_node_does_not_remember_is_left_out(batch, bundle):
    del batch.traces["f1"][1]
    assert waterfall([batch], bundle.manifest)[0] in {batch.fed[0].ms, batch.fed[2].ms}
    batch.traces["f1"].clear()
    assert waterfall([batch], bundle.manifest) == (0.0, [])
    assert stages_ms([batch], bundle.manifest)["f1"]["infer"] == quantiles([]) == {}
    assert "f2>f1" not in wires_ms([batch], bundle.manifest)


def test_a_device_is_summarised_over_its_own_clock_and_silent_where_it_tells_nothing():
    looks = [
        Look(0, Host(agent_cpu_s=1, busy_s=10, idle_s=10, temperature_c=50, clock_mhz=1800, power_w={"VDD_IN": 4})),
        Look(10**10, Host(agent_cpu_s=2, busy_s=15, idle_s=25, temperature_c=61, clock_mhz=600, power_w={"VDD_IN": 6})),
    ]
    assert summarised(looks, 100) == {
        "agent_cpu_percent": 10,
        "busy_percent": 25,
        "temperature_c": 61,
        "clock_mhz": 600,
        "power_w": {"VDD_IN": 5},
        "power_readings": {"VDD_IN": 2},
        "joules_per_step": {"VDD_IN": 0.5},
    }
    metered = summarised([looks[0], Look(10**10, Host())], 100, [3.0, 5.0, 4.0])
    assert metered["power_w"] == {"plug": 4, "VDD_IN": 4}
    assert metered["power_readings"] == {"plug": 3, "VDD_IN": 1}
    assert metered["joules_per_step"] == {"plug": 0.4, "VDD_IN": 0.4}
    assert "power_w" not in summarised(looks[:1], 100, [3.0])  # over no time
    pi = [Look(0, Host(throttled=0)), Look(1, Host(throttled=0x50005))]
    assert summarised(pi, 1)["throttled"] == ["0x0", "0x50005"]
    assert summarised([Look(0, Host()), Look(10**9, Host())], 1) == {"agent_cpu_percent": 0}
