"""A fleet of real agents goes over to another bundle while it works."""

import json

import pytest
from retrained import retrained

from benchmarks.driver import AnotherBundle
from benchmarks.fleet import running_trial
from edge_agent.bundle import load


@pytest.fixture(scope="module")
def other(bundle, tmp_path_factory):
    return retrained(bundle.path, tmp_path_factory.mktemp("other") / "bundle", "f1", -1.5)


def fed_until(driver, is_over):
    driver.measure(driver.fed + 10_000, until=is_over)
    assert is_over()


@pytest.mark.slow
def test_under_load_no_step_is_lost_or_mixed_and_memory_falls_back(fogguard, bundle, other, tmp_path):
    file = tmp_path / "switch.json"
    done = fogguard("bench", "switch", bundle.path, other.path, "--still", 1, "--rate", 200, "--json", file)
    assert done.returncode == 0, done.stdout + done.stderr
    there, back = json.loads(file.read_text())["switches"]
    assert (there["old"], there["new"]) == (back["new"], back["old"]) == (bundle.id.hex(), other.id.hex())
    for switch in (there, back):
        assert [each["name"] for each in switch["stretches"]] == ["before", "prepare", "commit", "both", "after"]
        for each in switch["stretches"]:
            assert (each["lost"], each["mixed"]) == (0, 0)
            assert each["labels_equal"] == each["labels_compared"] > 0.9 * each["sent"] - 1
    for node, mb in back["rss_mb"]["after"].items():
        assert mb < there["rss_mb"]["before"][node] + 5


def test_an_agent_that_dies_between_prepare_and_commit_comes_back_with_both_and_all_finish(bundle, other):
    nodes = tuple(bundle.manifest.nodes)
    old, new = bundle.id.hex(), other.id.hex()
    with running_trial(bundle.path, rate=100, window=64) as trial:
        driver, agents = trial.driver, trial.agents
        driver.feed.expect(other)
        driver.begin("switch", frozenset(bundle.manifest.order))
        driver.settle()
        agents.prepare(other)
        fed_until(driver, driver.told.await_bundle(new, nodes))
        agents.kill(["f1"])
        del driver.told.held["f1"]
        agents.start(["f1"])
        fed_until(driver, driver.told.await_bundle(new, nodes))
        assert {driver.told.held[node].bundle for node in nodes} == {old}
        agents.commit()
        fed_until(driver, lambda: {driver.told.held[node].bundle for node in nodes} == {new})
        driver.begin("afterwards", frozenset(bundle.manifest.order))
        driver.settle()
        driver.measure(100)
        driver.finish()
        assert {(record.bundle, record.answered_by) for record in driver.phases[-1].steady} == {(new, new)}


def test_who_feeds_a_fleet_that_goes_over_to_a_bundle_it_does_not_hold_is_told_to_which(bundle, other):
    with running_trial(bundle.path, rate=100, window=64) as trial:
        trial.driver.begin("switch", frozenset(bundle.manifest.order))
        trial.driver.settle()
        trial.agents.prepare(other)
        fed_until(trial.driver, trial.driver.told.await_bundle(other.id.hex(), tuple(bundle.manifest.nodes)))
        trial.agents.commit()
        told = f"the fleet has gone over from bundle {bundle.id.hex()} to {other.id.hex()}: run it with that one"
        with pytest.raises(AnotherBundle, match=told):
            trial.driver.measure(trial.driver.fed + 1000)


def test_an_agent_that_refuses_the_next_bundle_goes_on_with_its_own(bundle, other, bundle_copy):
    (bundle_copy / "f1.onnx").write_bytes((other.path / "f1.onnx").read_bytes())
    (bundle_copy / "manifest.json").write_text((bundle_copy / "manifest.json").read_text() + "\n")
    damaged = load(bundle_copy)
    others = tuple(node for node in bundle.manifest.nodes if node != "f1")
    with running_trial(bundle.path, rate=100, window=64) as trial:
        driver, agents = trial.driver, trial.agents
        driver.feed.expect(damaged)
        driver.begin("switch", frozenset(bundle.manifest.order))
        driver.settle()
        agents.prepare(damaged)
        fed_until(driver, driver.told.await_bundle(damaged.id.hex(), others))
        agents.abandon()
        fed_until(driver, lambda: not any(held.beside for held in driver.told.held.values()))
        assert {held.bundle for held in driver.told.held.values()} == {bundle.id.hex()}
        driver.finish()
        assert all(record.is_answered and record.answered_by == record.bundle for record in driver.phases[-1].steady)
