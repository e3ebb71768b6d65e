"""Room on a device: as much as its plan takes is asked for, where it is taken, and no more."""

import gzip
from pathlib import Path

import msgspec
import pytest

from provisioning.deployment import Deployment
from provisioning.doctor import unfit
from provisioning.facts import Python, parse_facts
from provisioning.own_wheel import OwnWheel
from provisioning.plan import Step, Wanted
from provisioning.release import Release
from provisioning.room import Room, examine_room, room_of, room_of_any
from provisioning.wheels import Target

MB = 1 << 20
FACTS = parse_facts((Path(__file__).with_name("facts") / "composed-pi4-bookworm.txt").read_text())
TARGET = Target("3.11", "aarch64")
RELEASE = Release({"bundle/f1.onnx": bytes(30 * MB)}, TARGET.environment)


@pytest.fixture(autouse=True)
def wheelhouse_of_40_mb(tmp_path, monkeypatch):
    monkeypatch.setenv("FOGGUARD_CACHE", str(tmp_path))
    archive = tmp_path / "wheels" / TARGET.environment / "site.tar.gz"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(gzip.compress(bytes(80 * MB), 1))
    with archive.open("r+b") as file:  # as large as one that could not be compressed so well
        trailer = archive.read_bytes()[-8:]
        file.truncate(40 * MB)
        file.seek(40 * MB - 8)
        file.write(trailer)


def room(*names, facts=FACTS):
    deployment = Deployment(Wanted(), RELEASE, {}, Python("/usr/bin/python3", "3.11"), TARGET)
    return room_of([Step(name=name, why="") for name in names], deployment, facts)


def test_who_needs_nothing_needs_no_room():
    assert room() == Room(0)
    full = msgspec.structs.replace(FACTS, disk_free_mb=0)
    assert unfit(examine_room(full, room())) == ""


def test_an_environment_takes_what_it_unpacks_to_and_its_archive_meanwhile():
    assert 40 + 80 < room("environment").opt / MB < 40 + 80 + 35
    assert room("environment", "release").opt - room("environment").opt == pytest.approx(30 * MB, rel=0.01)


def test_a_home_on_another_file_system_takes_the_archive_alone():
    apart = msgspec.structs.replace(FACTS, home_free_mb=39)
    found = room("environment", "release", facts=apart)
    assert found.home == 40 * MB
    assert found.opt == room("environment", "release").opt - 40 * MB
    assert unfit(examine_room(apart, found)) == "39 MB free in the login's home: make room: 40 MB are needed"


def test_what_is_lacking_is_told_with_what_is_there():
    nearly = msgspec.structs.replace(FACTS, disk_free_mb=100)
    assert unfit(examine_room(nearly, room("environment"))) == "100 MB of disk free: make room: 150 MB are needed"
    assert unfit(examine_room(nearly, room("release"))) == ""


def test_without_a_bundle_a_device_that_lacks_the_environment_of_today_needs_room_for_it():
    other = msgspec.structs.replace(FACTS, venvs=frozenset({"python3.11-aarch64-older"}), disk_free_mb=130)
    assert "make room" in unfit(examine_room(other, room_of_any(TARGET, other)))
    same = msgspec.structs.replace(other, venvs=frozenset({TARGET.environment}))
    assert unfit(examine_room(same, room_of_any(TARGET, same))) == ""


def test_a_wheelhouse_that_is_yet_to_be_made_is_estimated_a_wheel_of_ones_own_counted_in():
    unmade = Target("3.13", "aarch64")
    plain = room_of_any(unmade, FACTS).opt
    assert plain > 150 * MB
    own = unmade._replace(own=OwnWheel(Path("ort.whl"), "onnxruntime", *3 * [frozenset()], "0" * 64, 300 * MB))
    assert room_of_any(own, FACTS).opt > plain + 600 * MB
