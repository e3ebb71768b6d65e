"""Where things are."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARED_DATA = Path(os.environ.get("FOGGUARD_TEST_DATA", ROOT.parent / "shared" / "data"))


def command(name: str) -> str:
    """The console script `name` of the environment that the tests run in."""
    return str(Path(sys.executable).with_name(name))
