"""What several tests stand on: one trained and exported network, real brokers, and the command line."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import command

from broker.embedded import mosquitto, running_broker
from broker.url import BrokerUrl
from edge_agent.bundle import Bundle
from export.spec import Spec, load_spec, parse_spec
from fogguard import main

settings.register_profile("unhurried", deadline=None)  # machines are shared: how long an example takes proves nothing
settings.load_profile("unhurried")

# Shells start what runs in the background with Ctrl-C ignored, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing may be skipped: what a test needs is installed there."""
    report = yield
    if os.environ.get("FOGGUARD_NO_SKIPS") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.fixture
def fogguard(tmp_path: Path) -> Command:
    """Run `fogguard` in an empty folder, to its end."""

    def run(*arguments: object, timeout: float = 250, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [command("fogguard"), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def fogguard_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run `fogguard` in this process, in an empty folder: for what can share it, and sooner so."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        words = ["fogguard", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        on_term = signal.getsignal(signal.SIGTERM)
        try:
            code = main()
        except SystemExit as left:
            code = int(left.code or 0)
        finally:
            signal.signal(signal.SIGTERM, on_term)
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def quick_spec() -> Spec:
    """The built-in `watch`, trained for a few epochs only."""
    return parse_spec(load_spec("watch").text.replace("epochs = 40", "epochs = 4"))


@pytest.fixture(scope="session")
def run_path(tmp_path_factory: pytest.TempPathFactory, quick_spec: Spec) -> Path:
    """A trained run."""
    from export.data import load_data
    from export.runs import save_run
    from export.training import train
    from export.variants import VARIANTS

    path = tmp_path_factory.mktemp("trained") / "run"
    save_run(train(quick_spec, load_data("watch"), VARIANTS["failout"], [0]), "failout", path)
    return path


@pytest.fixture(scope="session")
def bundle(run_path: Path) -> Bundle:
    """An exported bundle; not to be changed."""
    from export.writer import export_bundle

    return export_bundle(run_path, run_path.with_name("bundle"))


@pytest.fixture
def bundle_copy(bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(bundle.path, tmp_path / "bundle"))


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> Iterator[BrokerUrl]:
    """A running broker of each kind."""
    if request.param == "mosquitto" and mosquitto() is None:
        pytest.skip("no mosquitto on this machine: apt-get install mosquitto")
    with running_broker(request.param) as url:
        yield url
