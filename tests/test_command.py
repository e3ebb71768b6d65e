"""The command line: wrong input is one sentence and exit code 2, and nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from support import command

from export.check import WHOLE


def processes_naming(text):
    """The command lines of running processes that name `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if text in line:
                found.append(line)
    return found


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train helth --out r", "helth: no such file, and no built-in specification: those are health, watch"),
        ("train fog.toml --out r", "fog.toml: cannot be read (No such file or directory)"),
        ("train bad.toml --out r", "bad.toml: cycle: a → a"),
        ("train health --out r", "data set mhealth is not in"),
        ("train watch --out full", "full exists and holds no run.json"),
        ("train watch --out full/a.txt/r", "cannot be written"),
        ("train watch --out r --json nowhere/x.json", "--json nowhere/x.json: cannot be written there"),
        ("evaluate full", "full: neither a run (run.json) nor a bundle (manifest.json)"),
        ("export full --out b", "no run at full"),
        ("check full", "no bundle at full"),
        ("run full", "no bundle at full"),
        ("run BUNDLE --down f9", "f9 is no node that can fail: those are f1, f2, e1"),
        ("run BUNDLE --broker nonsense", "--broker 'nonsense': write mqtt://HOST:PORT, embedded or mosquitto"),
        ("run BUNDLE --broker mqtt://127.0.0.1:9", "no broker answers at mqtt://127.0.0.1:9"),
        ("run BUNDLE --external", "name the broker where the agents are"),
        ("run BUNDLE --fleet a/b", "fleet 'a/b': use letters"),
        ("broker --port TAKEN", "another program has it; choose another with --port"),
        ("broker --render-mosquitto full/a.txt", "cannot be written"),
        ("data import nothing x", "unknown data set 'nothing': there are watch, mhealth"),
        ("data import mhealth nowhere.zip", "nowhere.zip: no such file or folder; download"),
        ("data import watch full", "watch needs no import"),
        ("run", "Missing argument"),
        ("run BUNDLE --steps many", "Invalid value for '--steps'"),
        ("nonsense", "No such command 'nonsense'"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(fogguard, tmp_path, bundle, arguments, sentence):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    node = '[nodes.a]\nsimple = ["a"]\npartition = { kind = "dense", layers = [1] }'
    (tmp_path / "bad.toml").write_text(f'name = "x"\ndata = {{ set = "watch" }}\nsensors = {{ s = 1 }}\n{node}')
    before = sorted(tmp_path.rglob("*"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = {"BUNDLE": str(bundle.path), "TAKEN": str(server.getsockname()[1])}
        done = fogguard(*(words.get(word, word) for word in arguments.split()), FOGGUARD_DATA=str(tmp_path / "data"))
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_bundle_fails_the_check_with_exit_code_1(fogguard, bundle_copy, tmp_path):
    assert fogguard("check", bundle_copy).returncode == 0
    (bundle_copy / WHOLE).write_bytes(b"")
    done = fogguard("check", bundle_copy, "--json", "check.json")
    assert done.returncode == 1
    assert "whole.onnx was changed" in done.stderr
    assert "FAIL file: whole.onnx was changed" in done.stdout
    assert [each["ok"] for each in json.loads((tmp_path / "check.json").read_text())["checks"]] == [False]


def test_a_bundle_of_another_version_is_exit_code_2(fogguard, bundle_copy):
    manifest = bundle_copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    for arguments in (["check", bundle_copy], ["run", bundle_copy, "--steps", 5], ["evaluate", bundle_copy]):
        done = fogguard(*arguments)
        assert (done.returncode, "schema version 9, this fogguard reads 1" in done.stderr) == (2, True)


def test_evaluate_writes_what_the_contract_says(fogguard, bundle, tmp_path):
    done = fogguard("evaluate", bundle.path, "--json", "e.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "e.json").read_text())
    assert {"command", "version", "commit", "bundle", "started", "host", "versions", "emulated"} <= result.keys()
    assert result["order"] == ["f1", "f2", "e1"]
    assert len(result["variants"]["failout"]["seeds"][0]["per_mask"]) == 8
    assert set(result["variants"]["failout"]["average"]["poor"]) == {"mean", "std", "n"}


def test_data_lists_every_set_and_says_where_it_comes_from(fogguard, tmp_path):
    listed = fogguard("data", FOGGUARD_DATA=str(tmp_path)).stdout
    assert "watch      here" in listed
    assert "pip install 'fogguard[demo]'" in listed
    assert "mhealth    missing" in listed


def test_every_command_has_help_with_an_example(fogguard):
    commands = ["demo", "train", "evaluate", "export", "check", "broker", "run", "data import"]
    for name in commands:
        shown = fogguard(*name.split(), "--help")
        assert shown.returncode == 0
        assert f"Example: fogguard {name}" in " ".join(shown.stdout.split())
    assert "usage: fogguard-agent" in subprocess.run(
        [command("fogguard-agent"), "--help"], capture_output=True, text=True
    ).stdout  # fmt: skip


def test_a_rendered_mosquitto_configuration_is_written(fogguard, tmp_path):
    assert fogguard("broker", "--render-mosquitto", "conf", "--port", 1884).returncode == 0
    assert "listener 1884 127.0.0.1" in (tmp_path / "conf" / "mosquitto.conf").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", ["broker --port 0", "run BUNDLE", "train watch --out run"])
def test_being_interrupted_leaves_no_process_and_nothing_half_written(tmp_path, bundle, arguments, number):
    words = [str(bundle.path) if word == "BUNDLE" else word for word in arguments.split()]
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(
            [command("fogguard"), *words],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stderr=log,
            stdout=log,
            start_new_session=True,
        )
    sign = {"broker": "broker at", "run": "all alive", "train": "training watch"}[words[0]]
    ends = time.monotonic() + 60
    while sign not in (tmp_path / "log").read_text() and time.monotonic() < ends:
        time.sleep(0.05)
    assert words[0] == "train" or processes_naming(str(tmp_path))
    running.send_signal(number)
    assert running.wait(20) in ((0, 130) if number == signal.SIGINT else (143,)), (tmp_path / "log").read_text()
    assert processes_naming(str(tmp_path)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert "Traceback" not in (tmp_path / "log").read_text()
