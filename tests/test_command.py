"""The command line: wrong input is one sentence and exit code 2, and nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from support import ROOT, command
from test_folder import no_file_over

from edge_agent.bundle import SCHEMA_VERSION
from export.check import WHOLE
from export.spec import load_spec


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
        ("train helth --out r", "helth: no such file, and no built-in specification: those are camera, health, watch"),
        ("train fog.toml --out r", "fog.toml: cannot be read (No such file or directory)"),
        ("train bad.toml --out r", "bad.toml: cycle: a → a"),
        ("train health --out r", "data set mhealth is not in"),
        ("train watch --out full", "full exists and holds no run.json"),
        ("train watch --out full/a.txt/r", "cannot be written"),
        ("train watch --out r --json nowhere/x.json", "--json nowhere/x.json: cannot be written there"),
        ("train watch --skips f9>f1", "node f1: unknown source 'f9'"),
        ("train watch --skips e1", "--skips 'e1': write SOURCE>NODE"),
        ("train watch --variant vanilla --skips all", "vanilla has no skips, whatever are chosen"),
        ("plan-skips watch --train 1 --variant vanilla", "a variant without skips is the same with all sets of them"),
        ("train watch --failures 1.5", "failures 1.5: give a rate from 0 to below 1"),
        ("train watch --failures stormy", "watch has the settings no_failure, normal, poor, hazardous"),
        ("train watch --split given", "data set watch gives no split of its own"),
        ("evaluate", "no run in runs/: name one, or make one"),
        ("plan-skips watch --setting stormy", "setting 'stormy': watch has no_failure, normal"),
        ("plan-skips watch --out full", "--out full: cannot be written there"),
        ("reproduce nothing", "table 'nothing': there are health,"),
        ("reproduce health --page nowhere/page.md", "--page nowhere/page.md: cannot be written there"),
        ("export full --out b --seed 3", "no run at full"),
        ("data import own full --label c --sensor a=x", "full: holds no rows in CSV files"),
        ("data import own full", "for CSV files of your own: `fogguard data import NAME FOLDER"),
        ("evaluate full", "full: neither a run (run.json) nor a bundle (manifest.json)"),
        ("export full --out b", "no run at full"),
        ("check full", "no bundle at full"),
        ("run full", "no bundle at full"),
        ("run BUNDLE --down f9", "f9 is no node that can fail: those are f1, f2, e1"),
        ("bench latency BUNDLE --offered fast", "--offered 'fast': write rates in steps a second"),
        ("bench switch BUNDLE BUNDLE", "are the same bundle"),
        ("bench latency BUNDLE --external", "name the broker where the agents are"),
        ("run BUNDLE --broker nonsense", "--broker 'nonsense': write mqtt://HOST:PORT, embedded or mosquitto"),
        ("run BUNDLE --broker mqtt://127.0.0.1:9", "no broker answers at mqtt://127.0.0.1:9"),
        ("run BUNDLE --external", "name the broker where the agents are"),
        ("run BUNDLE --fleet a/b", "fleet 'a/b': use letters"),
        ("broker --port TAKEN", "another program has it; choose another with --port"),
        ("broker --host 192.0.2.7 --port 0", "192.0.2.7:0 (Cannot assign requested address): choose another --host"),
        ("broker --render-mosquitto full/a.txt", "cannot be written"),
        ("data import nothing x", "unknown data set 'nothing': there are watch, mhealth, camera"),
        ("data import mhealth nowhere.zip", "nowhere.zip: no such file or folder; download"),
        ("data import watch full", "watch needs no import"),
        ("ask all return --fleet h --broker mqtt://127.0.0.1:9,x", "broker 'x': write mqtt://HOST:PORT"),
        ("ask all --fleet h --broker mqtt://127.0.0.1:9", "no broker answers at mqtt://127.0.0.1:9"),
        ("watch BUNDLE --broker mqtt://127.0.0.1:9", "no broker answers at mqtt://127.0.0.1:9"),
        ("watch BUNDLE --broker mqtt://127.0.0.1:9 --http 8765", "--http '8765': write HOST:PORT"),
        ("run", "Missing argument"),
        ("run BUNDLE --steps many", "Invalid value for '--steps'"),
        ("nonsense", "No such command 'nonsense'"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(fogguard_here, tmp_path, bundle, arguments, sentence):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    node = '[nodes.a]\nsimple = ["a"]\npartition = { kind = "dense", layers = [1] }'
    (tmp_path / "bad.toml").write_text(f'name = "x"\ndata = {{ set = "watch" }}\nsensors = {{ s = 1 }}\n{node}')
    before = sorted(tmp_path.rglob("*"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = {"BUNDLE": str(bundle.path), "TAKEN": str(server.getsockname()[1])}
        done = fogguard_here(
            *(words.get(word, word) for word in arguments.split()), FOGGUARD_DATA=str(tmp_path / "data")
        )
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_bundle_fails_the_check_with_exit_code_1(fogguard_here, bundle_copy, tmp_path):
    assert fogguard_here("check", bundle_copy).returncode == 0
    (bundle_copy / WHOLE).write_bytes(b"")
    done = fogguard_here("check", bundle_copy, "--json", "check.json")
    assert done.returncode == 1
    assert "whole.onnx was changed" in done.stderr
    assert "FAIL file: whole.onnx was changed" in done.stdout
    assert [each["ok"] for each in json.loads((tmp_path / "check.json").read_text())["checks"]] == [False]


def test_a_bundle_of_another_version_is_exit_code_2(fogguard_here, bundle_copy):
    manifest = bundle_copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 9'))
    for arguments in (["check", bundle_copy], ["run", bundle_copy, "--steps", 5], ["evaluate", bundle_copy]):
        done = fogguard_here(*arguments)
        assert (done.returncode, f"schema version 9, this fogguard reads {SCHEMA_VERSION}" in done.stderr) == (2, True)


def test_evaluate_writes_what_the_contract_says(fogguard, bundle, tmp_path):
    done = fogguard("evaluate", bundle.path, "--json", "e.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "e.json").read_text())
    assert {"command", "version", "commit", "bundle", "started", "host", "versions", "emulated"} <= result.keys()
    assert result["bundle"] == bundle.id.hex()
    assert result["order"] == ["f1", "f2", "e1"]
    assert (result["part"], result["n"]) == ("test", 237)
    assert len(result["variants"]["failout"]["seeds"][0]["per_mask"]) == 8
    assert set(result["variants"]["failout"]["average"]["poor"]) == {"mean", "std", "n", "ci95"}


def test_data_lists_every_set_and_says_where_it_comes_from(fogguard, tmp_path):
    listed = fogguard("data", FOGGUARD_DATA=str(tmp_path)).stdout
    assert "watch      here" in listed
    assert "pip install 'fogguard[demo]'" in listed
    assert "mhealth    missing" in listed
    assert "your own, from a folder of CSV files" in listed


@pytest.mark.slow
@pytest.mark.compute
def test_several_seeds_are_trained_evaluated_and_one_of_them_exported(fogguard, tmp_path):
    arguments = ["--variant", "mux", "--skips", "all", "--epochs", 2, "--seeds", 3, "--seed", 5, "--json", "t.json"]
    done = fogguard("train", "watch", *arguments)
    assert done.returncode == 0, done.stderr
    trained = json.loads((tmp_path / "t.json").read_text())
    name = "mux skips=all epochs=2"
    assert (trained["part"], list(trained["variants"])) == ("validation", [name])
    assert fogguard("evaluate", "--json", "e.json").returncode == 0  # the newest run
    result = json.loads((tmp_path / "e.json").read_text())
    assert [seed["seed"] for seed in result["variants"][name]["seeds"]] == [5, 6, 7]
    assert result["variants"][name]["average"]["poor"]["n"] == 3
    run = tmp_path / "runs" / "watch-mux-skips-all-epochs-2"
    exported = fogguard("export", run, "--out", "bundle", "--seed", 6)
    assert exported.returncode == 0, exported.stderr
    done = fogguard("evaluate", "bundle", "--json", "b.json")
    assert done.returncode == 0, done.stderr
    from_parts = json.loads((tmp_path / "b.json").read_text())["variants"][name]["seeds"]
    from_torch = result["variants"][name]["seeds"][1]
    assert from_parts[0]["seed"] == from_torch["seed"] == 6
    assert from_parts[0]["per_mask"] == pytest.approx(from_torch["per_mask"], abs=1 / 236)
    assert fogguard("check", "bundle").returncode == 0
    live = fogguard("run", "bundle", "--steps", 100, "--down", "f1")  # agents tell the graph which inputs are present
    assert live.returncode == 0, live.stderr
    missing = fogguard("export", run, "--out", "other", "--seed", 9)
    assert (missing.returncode, "seed 9 is not in this run: it has 5, 6, 7" in missing.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.compute
def test_skips_are_planned_trained_and_written(fogguard, tmp_path):
    arguments = ["--skips", 1, "--top", 3, "--train", 2, "--seeds", 1, "--epochs", 1]
    done = fogguard("plan-skips", "watch", *arguments, "--out", "better.toml", "--json", "p.json")
    assert done.returncode == 0, done.stderr
    plans = json.loads((tmp_path / "p.json").read_text())["plans"]
    assert plans[0]["path_lives"] == pytest.approx(1)
    assert [plan["accuracy"] is not None for plan in plans] == [True, True, False]
    assert plans[0]["accuracy"] >= plans[1]["accuracy"]
    (gain,) = json.loads((tmp_path / "p.json").read_text())["best"]
    assert gain["bytes"] > 0
    assert gain["accuracy_points"] is not None
    assert load_spec(str(tmp_path / "better.toml")).name == "watch"
    assert plans[0]["skips"][0] in done.stdout


def test_a_specification_that_cannot_be_written_is_one_sentence_and_leaves_what_was_there(fogguard, tmp_path):
    (tmp_path / "better.toml").write_text("mine")
    with no_file_over(500):
        done = fogguard("plan-skips", "watch", "--out", "better.toml")
    assert (done.returncode, "better.toml: cannot be written (File too large)" in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["better.toml"]
    assert (tmp_path / "better.toml").read_text() == "mine"


def test_a_folder_of_csv_files_is_imported_and_trained(fogguard, tmp_path):
    folder = tmp_path / "csv"
    folder.mkdir()
    lines = [f"{'high' if number % 2 else 'low'},{number % 2 + number / 1000},{number}" for number in range(200)]
    (folder / "a.csv").write_text("\n".join(["level,x,y", *lines]))
    home = {"FOGGUARD_DATA": str(tmp_path / "data")}
    done = fogguard("data", "import", "mine", folder, "--label", "level", "--sensor", "iot=x,y", **home)
    assert done.returncode == 0, done.stderr
    assert "mine: 200 rows, 2 classes, sensors iot = 2" in done.stderr
    text = load_spec("watch").text.replace('set = "watch"', 'set = "mine"').replace("iot = 36", "iot = 2")
    (tmp_path / "fog.toml").write_text(text)
    done = fogguard("train", "fog.toml", "--epochs", 3, **home)
    assert done.returncode == 0, done.stderr
    assert "mine" in fogguard("data", **home).stdout


def test_every_command_has_help_with_an_example(fogguard_here):
    commands = [
        "demo",
        "train",
        "evaluate",
        "export",
        "check",
        "broker",
        "run",
        "data import",
        "plan-skips",
        "reproduce",
        "pki init",
        "sign",
        "ask",
        "drill",
        "observe",
        "watch",
        "reliability",
        "report",
        "bench compare",
    ]
    for name in commands:
        shown = fogguard_here(*name.split(), "--help")
        assert shown.returncode == 0
        assert f"Example: fogguard {name}" in " ".join(shown.stdout.split())
    assert "usage: fogguard-agent" in subprocess.run(
        [command("fogguard-agent"), "--help"], capture_output=True, text=True
    ).stdout  # fmt: skip


def test_ctrl_c_while_a_library_is_loaded_is_ctrl_c(fogguard, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('initialization failed') from KeyboardInterrupt()")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = fogguard("check", tmp_path, PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (130, "")
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('initialization failed')")
    assert "initialization failed" in fogguard("check", tmp_path, PYTHONPATH=path).stderr


def test_ctrl_c_before_the_first_library_is_loaded_ends_it_without_a_word(fogguard, tmp_path):
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    done = fogguard("--help", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("matplotlib", "report drill.json", "benchmarks"),
        ("cryptography", "pki init pki --fleet house --bundle BUNDLE --host h", "provisioning"),
    ],
)
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(
    fogguard, tmp_path, bundle, missing, arguments, extra
):
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError(name={missing!r})")
    words = [str(bundle.path) if word == "BUNDLE" else word for word in arguments.split()]
    done = fogguard(*words, PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    sentence = f"fogguard: {missing} is not installed here: pip install 'fogguard[{extra}]'\n"
    assert (done.returncode, done.stderr) == (2, sentence)


def test_a_full_disk_is_one_sentence():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [command("fogguard"), "bench", "compare", *[ROOT / "benchmarks/results/soak.json"] * 2],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "fogguard: the disk is full (the output could not be written)\n")


def test_a_rendered_mosquitto_configuration_is_written(fogguard, tmp_path):
    assert fogguard("broker", "--render-mosquitto", "conf", "--port", 1884).returncode == 0
    assert "listener 1884 127.0.0.1" in (tmp_path / "conf" / "mosquitto.conf").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
@pytest.mark.parametrize("arguments", ["broker --port 0", "run BUNDLE", "train watch --out run --epochs 900"])
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
    while sign not in (tmp_path / "log").read_text():
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert words[0] == "train" or processes_naming(str(tmp_path))
    running.send_signal(number)
    assert running.wait(20) in ((0, 130) if number == signal.SIGINT else (143,)), (tmp_path / "log").read_text()
    assert processes_naming(str(tmp_path)) == []
    left = {path.name for path in tmp_path.iterdir()} - {"run.checkpoint"}  # to go on from
    assert left == {"log"}
    assert "Traceback" not in (tmp_path / "log").read_text()
