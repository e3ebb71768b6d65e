"""What keeps a device light."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions, requires

HEAVY = ("torch", "onnx", "onnxscript", "fabric", "paramiko", "typer", "rich", "matplotlib", "jinja2", "safetensors",
         "export", "provisioning", "benchmarks")  # fmt: skip

SCRIPT = f"""
import importlib, pkgutil, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise AssertionError("a device would import " + name)
sys.meta_path.insert(0, Refuse())
import broker, edge_agent
modules = [m.name for p in (broker, edge_agent) for m in pkgutil.iter_modules(p.__path__, p.__name__ + ".")]
for name in modules:
    importlib.import_module(name)
print(len(modules))
"""


def test_device_code_imports_no_workstation_library():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 15


def test_the_refusal_refuses():
    broken = SCRIPT.replace("import broker, edge_agent", "import broker, edge_agent, torch")
    assert (
        "a device would import torch"
        in subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True).stderr
    )


def test_a_device_installs_four_packages():
    base = [line for line in requires("fogguard") or [] if "extra ==" not in line]
    assert sorted(line.split(">")[0] for line in base) == ["msgspec", "numpy", "onnxruntime", "paho-mqtt"]


def test_nobody_else_s_package_lies_over_ours():
    owners = packages_distributions()
    for package in ("broker", "edge_agent", "export", "provisioning", "benchmarks", "fogguard"):
        assert set(owners.get(package, ["fogguard"])) == {"fogguard"}


def test_onnxruntime_is_kept_from_phoning_home(tmp_path):
    """Where telemetry is on, loading onnxruntime alone leaves a session file in the temporary folder."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    script = "import edge_agent.session, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**environment, "TMPDIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout == "1\n", done.stderr
    assert list(tmp_path.iterdir()) == []
