"""The head of every result, and how results are written."""

import importlib.util
import os
import shutil
import signal
import subprocess
import threading

import pytest

from benchmarks import environment
from benchmarks.options import require_writable
from broker.errors import FogError


def loaded_from(file):
    """The same module, as if it had been installed there."""
    file.parent.mkdir(parents=True)
    shutil.copy(environment.__file__, file)
    spec = importlib.util.spec_from_file_location("installed_environment", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def git(folder, *words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *words], cwd=folder, check=True)


def test_a_result_names_the_commit_of_the_checkout_that_it_was_made_from(tmp_path):
    module = loaded_from(tmp_path / "benchmarks" / "environment.py")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "ours")
    assert len(module.head().commit) == 12
    (tmp_path / "benchmarks" / "environment.py").write_text("# changed")
    assert module.head().commit.endswith("-dirty")


def test_a_stranger_s_repository_around_an_installed_fogguard_is_not_its_commit(tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-qm", "a stranger's", "--allow-empty")
    assert loaded_from(tmp_path / ".venv" / "benchmarks" / "environment.py").head().commit == ""


def test_a_result_is_made_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.head().commit == ""


def test_what_is_no_file_is_not_replaced_by_a_result(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # as is /dev/stdout, and /dev/null is as little a file
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(FogError, match=f"--json .*{name}: cannot be written there"):
            require_writable(tmp_path / name)
    require_writable(tmp_path / "new.json")


def test_a_result_goes_where_a_link_points(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "r.json").symlink_to("there/r.json")
    for text in (b"{}", b"{1}"):
        require_writable(tmp_path / "r.json")
        environment.write_whole(tmp_path / "r.json", text)
        assert ((tmp_path / "there" / "r.json").read_bytes(), (tmp_path / "r.json").is_symlink()) == (text, True)


def test_ctrl_c_while_a_result_is_written_leaves_what_was_there(tmp_path):
    (tmp_path / "r.json").write_text("{}")
    os.mkfifo(tmp_path / ".r.json.new")  # nobody reads it: writing lasts until it is interrupted
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        environment.write_whole(tmp_path / "r.json", b"{1}")
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "{}"
