"""A fleet over two sites: two mosquittos with the bridge that docs/brokers.md shows."""

import contextlib
import re
import subprocess

import pytest
from relay import relay
from secured import free_port, public_folder
from support import ROOT, command
from test_agent import listener
from test_sensing import measured

from benchmarks.fleet import running_trial
from broker.embedded import mosquitto, running_broker
from broker.mosquitto import render_open
from broker.process import spawn, stop
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.bundle import load
from provisioning.local import LocalFleet

(LINES,) = re.findall(r"```conf\n(connection .*?)```", (ROOT / "docs" / "brokers.md").read_text(), re.DOTALL)


@contextlib.contextmanager
def bridged_broker(fleet, to):
    """A second mosquitto, bridged to the one at `to`."""
    bridge = LINES.replace("broker-a.local:1883", f"{to.host}:{to.port}").replace("fog/house/", f"fog/{fleet}/")
    url = BrokerUrl("127.0.0.1", free_port())
    with public_folder() as folder:
        (folder / "mosquitto.conf").write_text(render_open(url.host, url.port) + bridge)
        child = spawn([mosquitto(), "-c", str(folder / "mosquitto.conf")], log=folder / "log", folder=folder)
        try:
            yield url
        finally:
            stop(child)


@pytest.mark.slow
def test_a_fleet_over_two_bridged_sites_answers_as_predicted_whether_the_line_is_up_or_down(bundle, tmp_path):
    if mosquitto() is None:
        pytest.skip("no mosquitto on this machine: apt-get install mosquitto")
    fleet = bundle.manifest.name
    everyone = frozenset(bundle.manifest.order)
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(running_broker("mosquitto"))
        line = stack.enter_context(relay(here))
        there = stack.enter_context(bridged_broker(fleet, line.url))
        for site, url, nodes in (("here", here, ("f2", "f1", "cloud")), ("there", there, ("e1",))):
            (tmp_path / site).mkdir()
            agents = stack.enter_context(LocalFleet(load(bundle.path), [url], fleet, tmp_path / site))
            agents.start(nodes)
        trial = stack.enter_context(running_trial(bundle.path, broker=str(here), local=False, fleet=fleet))
        measured(trial, "the line is up", everyone)

        asked = ["ask", "e1", "ping", "--broker", str(here), "--fleet", fleet]
        done = subprocess.run([command("fogguard"), *asked], capture_output=True, text=True, timeout=60)
        assert (done.returncode, f"at {there}" in done.stdout) == (0, True), done.stderr

        line.is_held = True
        measured(trial, "the line is down", everyone - {"e1"})
        assert trial.driver.told.metrics["cloud"].view["e1"].layer == "beat"
        line.is_held = False
        measured(trial, "the line is up again", everyone)

        agents.kill(["e1"])
        measured(trial, "e1 is dead", everyone - {"e1"})
        assert trial.driver.told.metrics["cloud"].view["e1"].layer in ("will", "beat")
        with listener(here, Topics(fleet).status("e1")) as (hears, heard):
            assert hears.poll_until(lambda: heard, 5)
        assert b'"online":false' in heard[-1][1]
        agents.start(["e1"])
        measured(trial, "e1 is back", everyone)
