"""The wheelhouse: downloaded for the device's Python and processor, never on trust, and never twice."""

import os
import subprocess
import sys
import tarfile

import pytest

from broker.errors import FogError
from provisioning import wheels
from provisioning.wheels import PYTHONS, Target, WheelsError, lock, wheelhouse


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOGGUARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def names(archive):
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_an_environment_is_named_by_what_is_in_it(monkeypatch):
    one = Target("3.11", "aarch64").environment
    assert one == Target("3.11", "aarch64").environment
    others = {Target(python, arch).environment for python in PYTHONS for arch in wheels.ARCHES}
    assert len(others) == len(PYTHONS) * 2
    monkeypatch.setattr(wheels, "lock", lambda python: lock(python).replace("numpy==", "numpy=="[::-1]))
    assert Target("3.11", "aarch64").environment != one


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_of_a_device_is_pinned_with_hashes(python):
    lines = [line for line in lock(python).splitlines() if line and not line.startswith("#")]
    pinned = [line.split("==")[0] for line in lines if not line.startswith(" ")]
    assert pinned == ["msgspec", "numpy", "onnxruntime", "paho-mqtt"]
    assert len(lines) > len(pinned)


@pytest.mark.parametrize("text", ["3.9-aarch64", "3.11-armv7l", "3.11", "aarch64"])
def test_a_target_that_there_is_no_onnxruntime_for_is_refused(text):
    with pytest.raises(FogError, match="write PYTHON-ARCH"):
        Target.parse(text)


@pytest.mark.slow
@pytest.mark.compute
def test_wheels_for_another_processor_are_installed_here_and_not_downloaded_again(cache, monkeypatch):
    said = []
    archive = wheelhouse(Target("3.13", "aarch64"), said.append)
    found = names(archive)
    assert any(name.startswith("onnxruntime/capi/") and "aarch64" in name for name in found)
    assert not any("x86_64" in name for name in found)
    assert not any("tests" in name.split("/") for name in found)
    assert len(said) == 2
    # An interruption after the download: it goes on without the network, and comes to the same bytes.
    before = archive.read_bytes()
    archive.unlink()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert wheelhouse(Target("3.13", "aarch64"), said.append).read_bytes() == before
    assert [file.name for file in archive.parent.iterdir() if file.name.startswith(".new")] == []


def test_a_wheel_with_another_hash_than_the_locked_one_is_refused(cache, monkeypatch):
    monkeypatch.setattr(wheels, "lock", lambda python: "paho-mqtt==2.2.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(WheelsError, match=r"pip download failed on .*"):
        wheelhouse(Target("3.11", "x86_64"), lambda what: None)
    assert not list(cache.rglob("site.tar.gz"))


@pytest.mark.slow
@pytest.mark.compute
def test_what_a_device_unpacks_is_enough_for_an_agent(cache, tmp_path):
    python = ".".join(map(str, sys.version_info[:2]))
    archive = wheelhouse(Target(python, os.uname().machine), lambda what: None)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "site", filter="data")
    code = "import edge_agent.command, onnxruntime; print(onnxruntime.__file__)"
    environment = {
        "PYTHONPATH": f"{tmp_path / 'site'}:{os.pathsep.join(map(str, sys.path))}",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "site") in done.stdout
