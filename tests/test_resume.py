"""An interrupted training goes on where it was, and comes out the same."""

import signal
import subprocess
import time

import pytest
import torch
from support import command
from test_folder import no_file_over

import export.checkpoint
from benchmarks.training import train_run
from export.checkpoint import CheckpointError
from export.data import load_data
from export.runs import load_run
from export.spec import load_spec, parse_spec
from export.training import train
from export.variants import VARIANTS, Choice

SPEC = parse_spec(load_spec("watch").text.replace("epochs = 40", "epochs = 4"))
QUICK = parse_spec(load_spec("watch").text.replace("epochs = 40", "epochs = 1"))


class Interrupted(Exception):
    pass


def interrupted_after(steps, checkpoint, seeds=(0, 1)):
    def stop(done, _total, _found):
        if done == steps:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(SPEC, load_data("watch"), VARIANTS["fogguard"], list(seeds), stop, checkpoint)


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    monkeypatch.setattr(export.checkpoint, "EVERY_S", 0.0)


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    interrupted_after(75, checkpoint)  # in the third of four epochs of 30 batches
    told = []
    resumed = train(
        SPEC, load_data("watch"), VARIANTS["fogguard"], [0, 1], lambda *each: told.append(each[0]), checkpoint
    )
    assert told[0] == 61
    whole = train(SPEC, load_data("watch"), VARIANTS["fogguard"], [0, 1])
    assert resumed.epochs == whole.epochs
    assert resumed.validation_accuracy == whole.validation_accuracy
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name])


def test_a_training_is_kept_until_its_run_is_saved(tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    trained = train(QUICK, load_data("watch"), VARIANTS["vanilla"], [0], checkpoint=checkpoint)
    assert checkpoint.exists()  # or all would be lost if the disk is full now
    run = train_run(QUICK, load_data("watch"), Choice.of("vanilla"), [0], tmp_path / "run")
    assert run.validation_accuracy == trained.validation_accuracy
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_training_that_cannot_be_kept_is_one_sentence(tmp_path):
    with no_file_over(10_000), pytest.raises(CheckpointError, match="the training cannot be kept"):
        train(QUICK, load_data("watch"), VARIANTS["vanilla"], [0], checkpoint=tmp_path / "run.checkpoint")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_training_is_not_gone_on_with(tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    interrupted_after(35, checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match="another training was interrupted here"):
        interrupted_after(35, checkpoint, seeds=(5, 6))
    assert checkpoint.read_bytes() == before


def test_a_damaged_checkpoint_is_one_sentence(tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    checkpoint.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="remove it to begin anew"):
        train(SPEC, load_data("watch"), VARIANTS["fogguard"], [0], checkpoint=checkpoint)


@pytest.mark.slow
@pytest.mark.compute
def test_ctrl_c_keeps_what_was_learnt_and_the_same_command_goes_on(tmp_path):
    text = load_spec("watch").text.replace("epochs = 40", "epochs = 4000")
    (tmp_path / "fog.toml").write_text(text)
    arguments = [command("fogguard"), "train", "fog.toml", "--out", "run", "--seeds", "2"]
    running = subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ends = time.monotonic() + 120
    while not (tmp_path / "run.checkpoint").exists() and time.monotonic() < ends:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=30)
    assert running.returncode == 130, told
    assert "kept in run.checkpoint: the same command goes on from there" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fog.toml", "run.checkpoint"]
    with subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as again:
        assert "going on from run.checkpoint" in again.stderr.readline()
        again.kill()
    other = subprocess.run([*arguments[:-1], "3"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (other.returncode, "another training was interrupted here" in other.stderr) == (2, True)


def test_a_run_says_what_was_trained(run_path):
    run = load_run(run_path)
    assert (run.name, run.seeds, run.best_seed, run.variant) == ("failout", (0,), 0, VARIANTS["failout"])
