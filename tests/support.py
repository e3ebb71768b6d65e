"""Where things are, and who does as he is told."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARED_DATA = Path(os.environ.get("FOGGUARD_TEST_DATA", ROOT.parent / "shared" / "data"))


def command(name: str) -> str:
    """The console script `name` of the environment that the tests run in."""
    return str(Path(sys.executable).with_name(name))


def operated(folder, *arguments):
    """Run a `fogguard` that asks for plugs to be pulled to its end, and do to its agents as it asks."""
    with subprocess.Popen(
        [command("fogguard"), *map(str, arguments)], cwd=folder, stderr=subprocess.PIPE, text=True
    ) as running:
        pids = {}
        for line in running.stderr:
            pids.update(re.findall(r"(\w+) (\d+)", line) if "stand for devices" in line else ())
            for what, node in re.findall(r"^(unplug|plug in) (\w+) now", line):
                os.kill(int(pids[node]), signal.SIGSTOP if what == "unplug" else signal.SIGCONT)
    return running.returncode
