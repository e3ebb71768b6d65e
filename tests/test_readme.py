"""README is true: its numbers are those of the committed result, and its commands run as they stand."""

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from support import ROOT

README = (ROOT / "README.md").read_text()
DEVICES = (ROOT / "docs" / "devices.md").read_text()


def test_the_table_is_the_committed_result():
    for phase in json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text())["phases"]:
        sensed = ", ".join(f"{node} {ms:.1f} ms" for node, ms in phase["sensed_ms"].items()) or "-"
        cells = (
            phase["name"],
            f"{100 * phase['accuracy_measured']:.2f} %",
            f"{100 * phase['accuracy_predicted']:.2f} %",
            f"{phase['labels_equal']} of {phase['labels_compared']}",
            phase["lost"] + phase["transition"]["lost"],
            sensed,
        )
        assert f"| {' | '.join(map(str, cells))} |" in README


def test_every_link_leads_somewhere():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_every_folder_of_the_table_is_there():
    for folder in re.findall(r"^\| `(\w+/)` \|", README, re.MULTILINE):
        assert (ROOT / folder).is_dir()


@pytest.fixture(scope="module")
def clean_clone():
    """The files as git knows them, in a folder of an ordinary user."""
    folder = Path(tempfile.mkdtemp(prefix="fogguard-readme-"))
    listed = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.run(listed, capture_output=True, check=True, text=True).stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    (folder / "readings").mkdir()
    (folder / "readings" / "monday.csv").write_text("activity,ax,ay,az,open,person\nwalk,0.1,0.2,9.8,0,ann\n")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "nobody", folder], check=True)
    yield folder
    shutil.rmtree(folder)


def as_user(script, folder, timeout):
    """Run a shell script in `folder` with the system's Python, as an ordinary user even if we are root."""
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    python = {"PYTHON": "/usr/bin/python3"} if Path("/usr/bin/python3").exists() else {}
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **python}
    environment.update({name: value for name, value in os.environ.items() if name.startswith(("PIP_", "FOGGUARD_"))})
    if user:
        environment["PATH"] = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        assert pwd.getpwnam("nobody").pw_uid != 0
    return subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, **user
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_that_readme_shows_runs_on_a_clean_clone(clean_clone):
    blocks = re.findall(r"^```sh\n(.*?)^```", README + DEVICES, re.MULTILINE | re.DOTALL)
    assert blocks[0].strip() == "make demo"
    ending = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n"
    done = as_user(ending + "\n".join(blocks), clean_clone, timeout=1700)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "500 of 500" in done.stdout
    assert (clean_clone / "demo" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_second_make_demo_installs_nothing(clean_clone):
    assert (clean_clone / ".venv" / "demo-installed").exists(), "the test before this one has made it"
    done = as_user("make demo", clean_clone, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pip install" not in done.stdout


def test_make_test_is_a_target():
    shown = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0
    assert "pytest" in shown.stdout
