"""Measurements that are killed at any moment: the file is whole, the report can be drawn, the same command goes on."""

import json
import random
import subprocess
import time
from pathlib import Path

import pytest
from support import ROOT, command

from benchmarks.environment import head
from benchmarks.keeping import Keeper, cut_short
from broker.errors import FogError


def test_a_result_is_written_at_most_once_a_second_and_whole_at_the_end(tmp_path):
    file = tmp_path / "r.json"
    keeper, asked = Keeper(file, head(), {"bundle": "b"}), []

    def body(n):
        asked.append(n)
        return {"n": n}

    for n in range(5):
        keeper.keep(lambda n=n: body(n))
    assert asked == [0]
    assert {"n": 0, "bundle": "b", "finished": False}.items() <= json.loads(file.read_text()).items()
    assert cut_short(file, {"bundle": "b"})["n"] == 0
    with pytest.raises(FogError, match="holds another measurement, cut short, with another bundle"):
        cut_short(file, {"bundle": "c"})
    keeper.finish({"n": 5})
    assert {"n": 5, "finished": True}.items() <= json.loads(file.read_text()).items()
    assert cut_short(file, {"bundle": "c"}) is None  # it is replaced, as ever


def test_what_is_no_result_is_nothing_to_go_on_with(tmp_path):
    for text in ("", "[]", "{", '{"command": "an old one"}'):
        (tmp_path / "r.json").write_text(text)
        assert cut_short(tmp_path / "r.json", {}) is None
    assert cut_short(tmp_path / "none.json", {}) is None
    assert cut_short(None, {}) is None


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(fogguard, tmp_path):
    (tmp_path / "c.json").write_text("{}")
    demo = ROOT / "benchmarks" / "results" / "demo.json"
    for words, file in ((("bench", "compare", demo, demo, "--json"), "c.json"), (("report", demo, "--out"), "c.html")):
        (tmp_path / f".{file}.new").symlink_to("/dev/full")
        done = fogguard(*words, file)
        sentence = f"fogguard: {file}: cannot be written (No space left on device)\n"
        assert (done.returncode, done.stderr) == (2, sentence)
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]
    assert (tmp_path / "c.json").read_text() == "{}"


def test_masks_drawn_otherwise_do_not_replace_those_of_a_measurement_that_was_cut_short(fogguard, bundle, tmp_path):
    options = ("bench", "accuracy", bundle.path, "--rows", 20, "--masks", 2, "--json", "r.json")
    assert fogguard(*options).returncode == 0
    file = tmp_path / "r.json"
    file.write_text(file.read_text().replace('"finished": true', '"finished": false'))
    for words, what in ((("--seed", 1), "masks_asked"), (("--rows", 30), "rows_asked")):
        refused = fogguard(*options, *words)
        assert (refused.returncode, f"cut short, with another {what}:" in refused.stderr) == (2, True), refused.stderr


HERE = "every node is a process on this machine, killed, stopped or frozen by signals; the network is loopback"


@pytest.mark.parametrize(
    ("words", "there", "other"),
    [
        ("accuracy --mask 110 --mask 011", {"fleet": "watch", "masks_asked": ["111", "101"]}, "masks_asked"),
        ("accuracy --mask 110 --mask 011", {"fleet": "house", "masks_asked": ["110", "011"]}, "fleet"),
        ("failover", {"fleet": "house", "rate": 200, "times": 30, "steps": 100, "hold_s": 3}, "fleet"),
    ],
)
def test_other_masks_or_another_fleet_do_not_go_on_with_a_measurement(
    fogguard_here, bundle, tmp_path, words, there, other
):
    about = {"bundle": bundle.id.hex(), "rows_asked": 1000, "by": "kill", "emulated": HERE, "finished": False}
    (tmp_path / "r.json").write_text(json.dumps({**about, **there}))
    kind, *masks = words.split()
    refused = fogguard_here("bench", kind, bundle.path, *masks, "--json", "r.json")
    assert (refused.returncode, f"cut short, with another {other}:" in refused.stderr) == (2, True), refused.stderr


def killed_after(folder, seconds, *words):
    """Run a command, SIGKILL it so many seconds after its file is there, and return what stands in that."""
    file = folder / "r.json"
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [command("fogguard"), *map(str, words), "--json", "r.json"], cwd=folder, stdout=log, stderr=log
        )
    ends_s = time.monotonic() + 60
    while not file.exists():
        assert running.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < ends_s
        time.sleep(0.01)
    time.sleep(seconds)
    assert running.poll() is None, (folder / "log").read_text()
    agents = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True).stdout.split()
    running.kill()
    running.wait()
    while any(Path("/proc", pid).exists() for pid in agents):  # those of this machine end with their harness
        assert time.monotonic() < ends_s
        time.sleep(0.01)
    return json.loads(file.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words", "result"),
    [
        ("accuracy", ("--rows", 1000, "--by", "stop"), "masks"),
        ("failover", ("--by", "freeze,kill", "--times", 8), "classes"),
    ],
)
def test_a_benchmark_that_is_killed_leaves_a_report_up_to_that_second_and_goes_on(
    fogguard, bundle, tmp_path, kind, words, result
):
    chance = random.Random(3)
    for _ in range(3):
        found = killed_after(tmp_path, chance.uniform(0, 2.5), "bench", kind, bundle.path, *words)
        assert found["finished"] is False
        drawn = fogguard("report", "r.json", "--out", "r.html")
        assert drawn.returncode == 0, drawn.stderr
        assert f"Cut short after {found['elapsed_s']:.0f} s" in (tmp_path / "r.html").read_text()
    done = fogguard("bench", kind, bundle.path, *words, "--json", "r.json")
    assert done.returncode == 0, done.stderr
    whole = json.loads((tmp_path / "r.json").read_text())
    assert whole["finished"]
    assert len(whole[result]) == {"accuracy": 8, "failover": 2}[kind]
    if kind == "accuracy":
        known = {each["mask"]: each for each in found["masks"]}
        assert all(each == known.get(each["mask"], each) for each in whole["masks"])


@pytest.mark.slow
def test_a_timing_that_is_killed_leaves_a_report_up_to_that_second(fogguard, bundle, tmp_path):
    words = ("--steps", 100, "--rounds", 1, "--min-seconds", 60, "--offered", "50")
    found = killed_after(tmp_path, 2, "bench", "latency", bundle.path, *words)
    assert found["finished"] is False
    assert found["n"] > 0
    drawn = fogguard("report", "r.json", "--out", "r.html")
    assert drawn.returncode == 0, drawn.stderr
    assert f"Cut short after {found['elapsed_s']:.0f} s" in (tmp_path / "r.html").read_text()
