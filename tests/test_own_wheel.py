"""An onnxruntime of one's own, with real wheels: for which devices it is, and what becomes of it."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace

import pytest
from fleets import bare_fleet, reasons

from provisioning.inventory import InventoryError, load_inventory, with_wheels
from provisioning.own_wheel import WheelError, read_wheel
from provisioning.wheels import Target, lock, wheelhouse

LOCKED = Target("3.11", "aarch64")
OLDER = "1.23.2"


@pytest.fixture(scope="module")
def wheels():
    """The folder with the wheels for a Raspberry Pi with Debian 12."""
    return wheelhouse(LOCKED, lambda what: None).parent / "wheels"


@pytest.fixture(scope="module")
def wheel(wheels):
    """The locked onnxruntime for a Raspberry Pi with Debian 12."""
    (found,) = wheels.glob("onnxruntime-*.whl")
    return found


@pytest.fixture
def plain(wheel, tmp_path):
    """The same under the tag that people give to what they build on the device itself, as NVIDIA's wheels have it."""
    name = "-".join([*wheel.name.split("-")[:4], "linux_aarch64.whl"])
    return shutil.copy(wheel, tmp_path / name)


@pytest.mark.parametrize(
    ("python", "arch", "fits"),
    [("3.11", "aarch64", True), ("3.10", "aarch64", False), ("3.12", "aarch64", False), ("3.11", "x86_64", False)],
)
def test_a_wheel_is_for_the_python_and_processor_in_its_name(wheel, plain, python, arch, fits):
    for file in (wheel, plain):
        if fits:
            read_wheel(file).require_fits(python, arch)
        else:
            with pytest.raises(WheelError, match=rf"is for cp311-cp311-.*, the device has Python {python} on {arch}"):
                read_wheel(file).require_fits(python, arch)


@pytest.mark.parametrize(
    ("name", "python", "fits"),
    [
        ("onnxruntime-1.0-cp38-abi3-manylinux2014_aarch64.whl", "3.11", True),
        ("onnxruntime-1.0-cp312-abi3-manylinux2014_aarch64.whl", "3.11", False),
        ("onnxruntime_gpu-1.0-1-cp310.cp311-cp310.cp311-linux_aarch64.whl", "3.11", True),
        ("onnxruntime-1.0-py3-none-any.whl", "3.14", True),
        ("onnxruntime-1.0-cp311-cp311-macosx_11_0_arm64.whl", "3.11", False),
        ("onnxruntime-1.0-cp311-cp311-win_aarch64.whl", "3.11", False),
    ],
)
def test_every_kind_of_tag_is_understood(wheel, tmp_path, name, python, fits):
    own = read_wheel(shutil.copy(wheel, tmp_path / name))
    assert own.name in ("onnxruntime", "onnxruntime-gpu")
    if fits:
        own.require_fits(python, "aarch64")
    else:
        with pytest.raises(WheelError):
            own.require_fits(python, "aarch64")


def test_what_is_no_wheel_of_onnxruntime_is_refused_in_a_sentence(wheel, wheels, tmp_path):
    with pytest.raises(WheelError, match=r"gone-1-py3-none-any\.whl: cannot be read \(No such file"):
        read_wheel(tmp_path / "gone-1-py3-none-any.whl")
    with pytest.raises(WheelError, match="not named as wheels are"):
        read_wheel(shutil.copy(wheel, tmp_path / "onnxruntime.whl"))
    (tmp_path / wheel.name).write_bytes(wheel.read_bytes()[:100_000])
    with pytest.raises(WheelError, match="is not a whole wheel"):
        read_wheel(tmp_path / wheel.name)
    (paho,) = wheels.glob("paho_mqtt-*.whl")
    with pytest.raises(WheelError, match="brings no onnxruntime"):
        read_wheel(paho)


def test_a_wheel_that_asks_for_another_kind_of_zip_is_not_taken_for_a_bug(tmp_path):
    strange = zipfile.ZipInfo("onnxruntime/__init__.py")
    strange.extract_version = 255
    file = tmp_path / "onnxruntime-1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(strange, "")
    with pytest.raises(WheelError, match=r"is not a whole wheel \(zip file version 25\.5\)"):
        read_wheel(file)


@pytest.mark.slow
@pytest.mark.compute
def test_it_takes_the_place_of_the_locked_one_and_its_hash_is_pinned(plain, monkeypatch, tmp_path):
    monkeypatch.setenv("FOGGUARD_CACHE", str(tmp_path / "cache"))
    own = read_wheel(plain)
    target = LOCKED._replace(own=own)
    assert "onnxruntime==" not in target.requirements
    assert target.requirements.count("==") == lock("3.11").count("==") - 1
    assert f"--hash=sha256:{own.sha256}" in target.requirements
    assert target.environment != LOCKED.environment
    with tarfile.open(wheelhouse(target, lambda what: None)) as tar:
        assert any(name.startswith("onnxruntime/capi/") and "aarch64" in name for name in tar.getnames())
    elsewhere = shutil.copytree(plain.parent, tmp_path / "moved", ignore=shutil.ignore_patterns("cache")) / plain.name
    assert LOCKED._replace(own=read_wheel(elsewhere)).environment == target.environment
    assert LOCKED._replace(own=own._replace(sha256="0" * 64)).environment != target.environment


def test_the_inventory_names_it_and_the_command_line_has_the_last_word(tmp_path):
    (tmp_path / "fleet.toml").write_text(
        'fleet = "house"\n[broker]\ndevice = "f1"\nport = 1883\n'
        '[devices.f1]\naddress = "10.0.0.1"\nuser = "pi"\nnode = "f1"\nwheel = "gpu.whl"\n'
    )
    inventory = load_inventory(tmp_path / "fleet.toml")
    assert inventory.devices["f1"].wheel == str(tmp_path / "gpu.whl")
    assert with_wheels(inventory, {"f1": tmp_path / "x.whl"}).devices["f1"].wheel == str(tmp_path / "x.whl")
    assert with_wheels(inventory, {}) == replace(inventory)
    with pytest.raises(InventoryError, match="--wheel f9=…: the inventory has f1"):
        with_wheels(inventory, {"f9": tmp_path})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, bundle):
    with bare_fleet(tmp_path_factory.mktemp("fleet"), bundle) as found:
        yield found


@pytest.mark.lab
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="onnxruntime-openvino has wheels for x86-64 alone")
def test_another_provider_compiles_before_the_switch_as_the_agent_would_and_serves(fleet, tmp_path):
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path]
    target = ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--only-binary=:all:"]
    subprocess.run([*pip, *target, "onnxruntime-openvino==1.24.1"], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    plain = fleet.file.read_text()
    kept = "find /var/lib/private/fogguard/engines -name '*.blob' -printf '%p %u\n'"
    try:
        fleet.file.write_text(plain.replace("[devices.f1]\n", '[devices.f1]\nprovider = "openvino"\n'))
        refused = fleet.provision("apply", fleet.bundle.path, code=1)
        assert "has no OpenVINOExecutionProvider here: it has" in reasons(refused)["f1"]
        fleet.file.write_text(fleet.file.read_text().replace("[devices.f1]\n", f'[devices.f1]\nwheel = "{wheel}"\n'))
        report = fleet.provision("apply", fleet.bundle.path)
        assert re.search(r"golden rows within \S+ \(limit 1e-02\), OpenVINOExecutionProvider", reasons(report)["f1"])
        (engine,) = fleet.shell("f1", kept).splitlines()
        fleet.require_answers(fleet.bundle)
        serves = "cat /proc/$(systemctl show -P MainPID fogguard-agent)/maps"
        assert "libopenvino_intel_cpu_plugin" in fleet.shell("f1", serves)
        fleet.shell("f1", "systemctl restart fogguard-agent")
        fleet.require_answers(fleet.bundle)
        assert fleet.shell("f1", kept).splitlines() == [engine]  # the service looks where the self-test compiled
    finally:
        fleet.file.write_text(plain)
    fleet.provision("apply", fleet.bundle.path)
    fleet.require_answers(fleet.bundle)


@pytest.mark.lab
@pytest.mark.timeout(600)
def test_a_device_runs_its_own_onnxruntime_and_one_for_another_is_refused(fleet, wheel, tmp_path):
    machine = os.uname().machine
    options = ("--python-version", "3.11", "--platform", f"manylinux_2_28_{machine}", "--only-binary=:all:")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path, *options]
    subprocess.run([*pip, f"onnxruntime=={OLDER}"], check=True, capture_output=True)
    (older,) = tmp_path.glob("onnxruntime-*.whl")
    fleet.provision("apply", fleet.bundle.path, "--wheel", f"f1={older}")
    for node, version in (("f1", OLDER), ("f2", "")):
        told = fleet.shell(node, "/opt/fogguard/current/agent --self-test")
        assert (f"onnxruntime {OLDER}" in told) == bool(version), told
    fleet.require_answers(fleet.bundle)
    again = fleet.provision("apply", fleet.bundle.path, "--wheel", f"f1={older}")
    assert reasons(again)["f1"].startswith("nothing to change")
    if machine != "aarch64":
        refused = fleet.provision("apply", fleet.bundle.path, "--wheel", f"f1={wheel}", code=1)
        assert f"the device has Python 3.11 on {machine}" in reasons(refused)["f1"]
        assert f"onnxruntime {OLDER}" in fleet.shell("f1", "/opt/fogguard/current/agent --self-test")
    fleet.require_answers(fleet.bundle)
