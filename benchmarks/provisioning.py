"""How long provisioning takes: virtual devices, from bare to answering, changed, changed again and rolled back.

Each figure is that of the command that a person would type, its own start included.
"""

import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.retrained import retrained
from broker.errors import FailureFound
from edge_agent.bundle import load
from provisioning import pki
from provisioning.inventory import load_inventory
from provisioning.lab.emulation import host_arch
from provisioning.lab.programs import require_root
from provisioning.signing import sign_bundle
from provisioning.wheels import Target, wheelhouse

_LAB: Final = "bench"
_PYTHON: Final = "3.11"  # of Debian 12, which the lab's devices run
_MACHINE: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_STEPS: Final = 100
_TIMEOUT_S: Final = 600
UNITS: Final = ("fogguard-agent", "fogguard-broker")


def measure(bundle: Path, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return what `--json` writes: seconds by what was done, and their medians; raises FailureFound or LabError."""
    require_root()
    wheelhouse(Target(_PYTHON, _MACHINE[host_arch()]), say)
    found = [_round(bundle, number, say) for number in range(1, rounds + 1)]
    each = {name: [one["seconds"][name] for one in found] for name in found[0]["seconds"]}
    manifest = load(bundle).manifest
    return {
        "fog": manifest.name,
        "devices": len(manifest.nodes),
        "broker": "mosquitto with TLS, its package there already",
        "seconds": {name: statistics.median(values) for name, values in each.items()},
        "rounds": each,
        "steps": found[-1]["steps"],
        "exposure": found[-1]["exposure"],
    }


def _round(bundle: Path, number: int, say: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="fogguard-bench-") as name:
        folder = Path(name)
        began_s = time.monotonic()
        (folder / "fog.toml").write_text(load(bundle).manifest.spec, encoding="utf-8")
        with _lab(folder):
            seconds = {"lab up": time.monotonic() - began_s}
            _prepare(folder, bundle)
            steps = _provision(folder, seconds, lambda what, took: say(f"round {number}: {what} {took:.1f} s"))
            exposure = {unit: _exposure(folder, unit) for unit in UNITS}
    return {"seconds": seconds, "steps": steps, "exposure": exposure}


@contextlib.contextmanager
def _lab(folder: Path) -> Iterator[None]:
    """Boot a device for each node; none is left when the block ends."""
    _fogguard(folder, "lab", "up", "fog.toml", "--name", _LAB, "--fleet", "fleet.toml")
    try:
        yield
    finally:
        _fogguard(folder, "lab", "down", "--name", _LAB)


def _prepare(folder: Path, bundle: Path) -> None:
    """Make what a fleet's owner has: keys, an inventory that names them, and two signed bundles."""
    file = folder / "fleet.toml"
    file.write_text(file.read_text().replace("[broker]", 'pki = "pki"\n\n[broker]', 1))
    manifest = load(bundle).manifest
    pki.init(folder / "pki", _LAB, manifest.names, load_inventory(file).broker_hosts)
    shutil.copytree(bundle, folder / "bundle")
    retrained(bundle, folder / "changed", next(reversed(manifest.nodes)))
    for name in ("bundle", "changed"):
        sign_bundle(folder / name, folder / "pki" / "signing.key")


def _provision(
    folder: Path, seconds: dict[str, float], told: Callable[[str, float], None]
) -> Mapping[str, list[Mapping[str, Any]]]:
    """Go through a fleet's life, add to `seconds`, and return the steps that bare devices took."""
    url = ",".join(load_inventory(folder / "fleet.toml").broker_urls)
    answers = ("--external", "--broker", url, "--fleet", _LAB, "--tls", "pki", "--steps", _STEPS)
    life = {
        "bare": ("provision", "apply", "fleet.toml", "bundle", "--json", "bare.json"),
        f"{_STEPS} answers": ("run", "bundle", *answers),
        "again": ("provision", "apply", "fleet.toml", "bundle"),
        "one node's weights": ("provision", "apply", "fleet.toml", "changed"),
        "rollback": ("provision", "rollback", "fleet.toml"),
        f"{_STEPS} answers after it": ("run", "bundle", *answers),
    }
    for what, words in life.items():
        began_s = time.monotonic()
        _fogguard(folder, "lab", "run", "--name", _LAB, sys.executable, "-m", "fogguard", *words)
        seconds[what] = time.monotonic() - began_s
        told(what, seconds[what])
    devices: dict[str, Any] = json.loads((folder / "bare.json").read_text())["devices"]
    return {name: device["steps"] for name, device in devices.items()}


def _exposure(folder: Path, unit: str) -> float:
    """Return what `systemd-analyze security` says of a unit on the first broker's device: 0 is best, 10 worst."""
    carrier = load_inventory(folder / "fleet.toml").brokers[0].device
    told = _fogguard(folder, "lab", "ssh", "--name", _LAB, carrier, "systemd-analyze", "security", "--no-pager", unit)
    if found := re.search(rf"exposure level for {unit}\.service: ([\d.]+)", told):
        return float(found[1])
    raise FailureFound(f"systemd-analyze says nothing of {unit}: {told[-200:]}")


def _fogguard(folder: Path, *words: object) -> str:
    """Run a command of ours to its end, and return what it printed; raises FailureFound with its last words."""
    command = [sys.executable, "-m", "fogguard", *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
        raise FailureFound(f"fogguard {' '.join(map(str, words[:2]))} failed: {lines[-1].removeprefix('fogguard: ')}")
    return done.stdout
