"""Sources in the inventory: what is refused, and what a device gets for each sensor."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from support import ROOT

from broker.errors import FogError
from edge_agent.config import Source, load_config
from provisioning import pki
from provisioning.access import access_of
from provisioning.inventory import load_inventory
from provisioning.places import SourcesError, wheel_files
from provisioning.release import release_of
from provisioning.units import agent_files, broker_files

FLEET = """
fleet = "house"
pki = "pki"
[broker]
device = "cloud"
port = 8883
[devices.cloud]
address = "10.0.0.9"
user = "fog"
node = "cloud"
[devices.e1]
address = "10.0.0.1"
user = "pi"
node = "e1"
[devices.roof]
address = "10.0.0.7"
user = "pi"
"""


def read(folder, *sources):
    (folder / "fleet.toml").write_text(FLEET + "\n".join(sources))
    return load_inventory(folder / "fleet.toml")


def source(kind, options="", device="e1", name="iot", more=""):
    return f'[sources.{name}]\ndevice = "{device}"\nkind = "{kind}"\noptions = {{ {options} }}\n{more}'


def wheel(folder, files, name="shed-1.0-py3-none-any.whl"):
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return folder / name


SHED = {
    "shed.py": "def thermometer(leaf, *, start=0.0):\n    while True:\n        yield [start] * leaf.shape[0]\n",
    "shed-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: shed\nVersion: 1.0\n",
    "shed-1.0.dist-info/entry_points.txt": "[fogguard.sources]\nthermometer = shed:thermometer\n",
}


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([source("csv")], r"sources\.iot: file: a service has no stdin: name a FIFO on the device"),
        ([source("csv", 'file = "-"')], "a service has no stdin: name a FIFO on the device, such as /srv"),
        ([source("csv", 'file = "iot.csv"')], r"sources\.iot: file 'iot\.csv': write the whole path on the device"),
        ([source("csv", 'file = "/srv/../home/x"')], "write the whole path on the device"),
        (
            [source("folder", 'path = "/home/pi/images"')],
            "'/home/pi/images': the agent's service sees",
        ),
        ([source("folder", 'path = "/tmp"')], "'/tmp': the agent's service sees nothing below"),
        ([source("folder", 'paht = "/srv/x"')], "kind folder: .*; its options are path, loop"),
        ([source("replay", "loop = true")], "missing a required.*'file'"),
        ([source("mqtt", 'topic = "a/+"')], "write one topic without spaces"),
        ([source("mqtt", 'topic = "a"', more="rate = 9999")], r"sources\.iot: rate 9999.0 does not lie between"),
        ([source("x", more='groups = ["video\\nUser=root"]')], "is not the name of a group"),
        ([source("x", name='"a b"')], "sources 'a b': use letters"),
        ([source("x", device="moon")], r"sources\.iot\.device is 'moon'"),
        ([source("x", more="speed = 3")], "unknown field `speed`"),
        (
            [source("mqtt", 'topic = "a"', name="s1"), source("mqtt", 'topic = "b"', name="s2")],
            r"give all sources the same rate, over 0 \(s1 0, s2 0\)",
        ),
        (
            [source("x", name="s1", more="rate = 5"), source("x", name="s2")],
            r"give all sources the same rate, over 0 \(s1 5, s2 10\)",
        ),
    ],
)
def test_a_source_that_cannot_serve_on_a_device_is_one_sentence(tmp_path, sources, sentence):
    with pytest.raises(FogError, match=sentence):
        read(tmp_path, *sources)


def test_a_replay_without_a_file_is_fed_by_the_workstation_and_runs_nowhere(tmp_path):
    assert read(tmp_path, source("replay")).members("e1") == ["e1"]
    assert read(tmp_path, source("replay")).members("roof") == []
    assert read(tmp_path, source("replay", 'file = "x.npy"', "roof")).members("roof") == ["iot"]


@pytest.fixture
def keys(tmp_path, bundle):
    pki.init(tmp_path / "pki", "house", bundle.manifest.names, ["10.0.0.9"])


def unpacked(release, folder):
    with tarfile.open(fileobj=io.BytesIO(release.pack())) as tar:
        tar.extractall(folder, filter="data")
    return folder


def test_a_sensor_beside_a_node_is_an_agent_of_its_own(tmp_path, bundle, keys):
    np.save(tmp_path / "x.npy", np.zeros((2, 36)))
    inventory = read(tmp_path, source("replay", 'file = "x.npy"', more="rate = 5"))
    release = release_of(bundle, inventory, "e1", "env", ["iot"])
    folder = unpacked(release, tmp_path / "release")
    node, sensor = load_config(folder / "agent.json"), load_config(folder / "sensor-iot.json")
    assert (node.node, node.source, node.state) == ("e1", None, "/var/lib/fogguard")
    assert (sensor.node, sensor.state) == ("iot", "/var/lib/fogguard-sensor-iot")
    assert sensor.source == Source(kind="replay", rate=5.0, options={"file": "brought/iot/x.npy"})
    assert sensor.tls.key == "/run/credentials/fogguard-sensor-iot.service/iot.key"
    assert (folder / "brought/iot/x.npy").read_bytes() == (tmp_path / "x.npy").read_bytes()
    assert {"bundle/iot.onnx", "bundle/e1.onnx", "bundle/golden/iot.npy"} <= release.files.keys()
    files = agent_files(inventory, "e1", ["iot"])
    unit = files["/etc/systemd/system/fogguard-sensor-iot.service"].decode()
    assert "ExecStart=/opt/fogguard/current/agent --config sensor-iot.json\n" in unit
    assert "agent --config sensor-iot.json --hung" in unit
    assert "StateDirectory=fogguard-sensor-iot\n" in unit
    assert "PrivateDevices=no" not in unit
    named = [line.partition(":")[2] for line in unit.splitlines() if line.startswith("LoadCredential=")]
    assert sorted(path.rsplit("/", 1)[1] for path in named) == ["ca.crt", "iot.crt", "iot.key"]
    assert set(named) <= files.keys()
    assert files["/etc/systemd/system/fogguard-agent.service"] == agent_files(inventory, "e1")[
        "/etc/systemd/system/fogguard-agent.service"
    ]  # fmt: skip


def test_a_device_may_carry_a_sensor_alone_and_open_what_its_groups_may(tmp_path, bundle, keys):
    inventory = read(tmp_path, source("camera", device="roof", more='groups = ["video", "i2c"]'))
    assert (
        load_config(unpacked(release_of(bundle, inventory, "iot", "env"), tmp_path / "r") / "agent.json").node == "iot"
    )
    unit = agent_files(inventory, "iot")["/etc/systemd/system/fogguard-agent.service"].decode()
    for option in ("PrivateDevices", "ProtectClock"):  # in systemd 249, that of JetPack 6, each of them hides devices
        assert unit.index(f"{option}=yes") < unit.index(f"{option}=no")
    assert "SupplementaryGroups=video i2c\n" in unit


def test_the_broker_lets_a_sensor_read_the_topic_of_its_source(tmp_path, bundle, keys):
    inventory = read(tmp_path, source("mqtt", 'topic = "plant/iot"'))
    files = broker_files(inventory, bundle.manifest, "/usr/sbin/mosquitto", 1883)
    (acl,) = (data.decode() for path, data in files.items() if path.endswith("/acl"))
    rules = {each.splitlines()[0]: each.splitlines()[1:] for each in acl.split("user ")[1:]}
    assert [name for name, lines in rules.items() if "topic read plant/iot" in lines] == ["iot"]
    assert [name for name, lines in rules.items() if "topic write plant/iot" in lines] == ["feeder"]
    assert "topic read plant/iot" not in str(access_of(bundle.manifest, "house"))


def test_a_package_that_a_source_needs_comes_along_and_is_found_by_the_release(tmp_path, bundle, keys):
    wheel(tmp_path, SHED)
    more = 'wheels = ["shed-1.0-py3-none-any.whl"]'
    inventory = read(tmp_path, source("thermometer", "start = 3.5", more=more))
    folder = unpacked(release_of(bundle, inventory, "e1", "env", ["iot"], "aarch64"), tmp_path / "release")
    (folder / "venv").symlink_to(sys.prefix)
    config = json.loads((folder / "sensor-iot.json").read_text())
    (folder / "sensor-iot.json").write_text(json.dumps({**config, "verify_key": ""}))
    done = subprocess.run(
        [folder / "agent", "--config", "sensor-iot.json", "--self-test", "--bundle", "bundle"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "iot: its graph runs, and there is a source of kind thermometer" in done.stdout
    (folder / "lib" / "shed.py").write_text("import spidev_of_another_machine")
    done = subprocess.run([*done.args], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "shed:thermometer cannot be imported" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("name", "files", "sentence"),
    [
        ("shed-1.0.tar.gz", SHED, "neither a wheel for every device nor for aarch64"),
        ("shed-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", SHED, "neither a wheel for every device nor for aarch64"),
        ("shed-1.0-py3-none-any.whl", {"../x": ""}, "'../x' does not belong into a wheel"),
        ("shed-1.0-py3-none-any.whl", {"/etc/x": ""}, "'/etc/x' does not belong into a wheel"),
        ("shed-1.0-py3-none-any.whl", {"edge_agent/node.py": ""}, "does not belong into a wheel"),
    ],
)
def test_what_is_no_wheel_for_this_device_is_refused(tmp_path, name, files, sentence):
    with pytest.raises(SourcesError, match=sentence):
        wheel_files(wheel(tmp_path, files, name), "aarch64")
    with pytest.raises(SourcesError, match="cannot be read"):
        wheel_files(tmp_path / "none-1.0-py3-none-any.whl", "aarch64")
    (tmp_path / "bad-1.0-py3-none-any.whl").write_bytes(b"x")
    with pytest.raises(SourcesError, match="not a whole wheel"):
        wheel_files(tmp_path / "bad-1.0-py3-none-any.whl", "aarch64")


def test_a_wheel_that_is_damaged_anywhere_is_one_sentence_or_taken(tmp_path):
    file, told = tmp_path / "shed-1.0-py3-none-any.whl", set()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("shed.py", SHED["shed.py"] * 9)
    whole = file.read_bytes()
    for place in range(len(whole)):
        for damage in (0x01, 0x10, 0xFF):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ damage]) + whole[place + 1 :])
            try:
                wheel_files(file, "aarch64")
            except SourcesError as error:
                told.add(str(error))
    assert any("invalid" in sentence for sentence in told)  # zlib's word


def test_a_wheel_of_this_processor_is_taken(tmp_path):
    fitting = wheel(tmp_path, SHED, "shed-1.0-cp311-cp311-manylinux_2_28_aarch64.whl")
    assert {name: data.decode() for name, data in wheel_files(fitting, "aarch64").items()} == SHED


def test_rendered_access_rules_name_the_topic(fogguard, tmp_path, bundle, keys):
    arguments = ["--bundle", bundle.path, "--pki", "pki", "--listen"]
    done = fogguard("broker", "--render-mosquitto", "conf", *arguments, "iot=plant/iot")
    assert done.returncode == 0, done.stderr
    assert "topic read plant/iot\n" in (tmp_path / "conf" / "acl").read_text()
    done = fogguard("broker", "--render-mosquitto", "conf", *arguments, "e1=plant/iot")
    assert (done.returncode, "write SENSOR=TOPIC" in done.stderr) == (2, True)
    done = fogguard("broker", "--listen", "iot=plant/iot")
    assert (done.returncode, "--listen is about access rules" in done.stderr) == (2, True)


def test_the_package_in_the_documentation_is_built_brought_along_and_read(tmp_path, bundle, keys):
    page = (ROOT / "docs" / "devices.md").read_text()
    for name in ("pyproject.toml", "shed.py"):
        (block,) = re.findall(rf"^```\w+\n(# {re.escape(name)}.*?)^```", page, re.MULTILINE | re.DOTALL)
        (tmp_path / name).write_text(block)
    how = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist"]
    pip = [sys.executable, "-m", "pip", "wheel", *how, "."]
    built = subprocess.run(pip, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert built.returncode == 0, built.stderr
    axes = [f"axis{number}" for number in range(36)]
    for number, axis in enumerate(axes):
        (tmp_path / f"in_accel_{axis}_raw").write_text(f"{number}\n")
    options = f'device = "{tmp_path}", axes = "{",".join(axes)}"'
    inventory = read(tmp_path, source("accelerometer", options, more='wheels = ["dist/shed-1.0-py3-none-any.whl"]'))
    folder = unpacked(release_of(bundle, inventory, "e1", "env", ["iot"], "x86_64"), tmp_path / "release")
    script = """
from edge_agent.config import load_config
from edge_agent.sample import Leaf
from edge_agent.sources import find, opened
from pathlib import Path
source, leaf = load_config(Path("sensor-iot.json")).source, Leaf("iot", (36,))
print(next(opened(find(source.kind, source.options, leaf), source.options, leaf)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder, env={**os.environ, "PYTHONPATH": "lib"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{list(range(36))}\n", done.stderr
