"""Options that several commands share, and what they all do with `--json`."""

import functools
import inspect
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from broker.errors import FogError
from edge_agent.bundle import MANIFEST

_BEGAN: Final = datetime.now(timezone.utc)  # every command imports this module before its work

Json = Annotated[Path | None, typer.Option("--json", help="Write the machine-readable result to this file.")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder made by `fogguard export`.")]
BrokerChoice = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="WHERE",
        help="mqtt://HOST:PORT, or several with commas; embedded, mosquitto (default: what is here)",
    ),
]
TlsFolder = Annotated[
    Path | None,
    typer.Option("--tls", metavar="DIR", help="Certificates by `fogguard pki init`, for an mqtts:// broker."),
]
LabName = Annotated[
    str | None, typer.Option("--lab", metavar="NAME", help="The agents run on the devices of this lab.")
]
External = Annotated[
    bool,
    typer.Option("--external", help="The agents run elsewhere: name their --broker. Nodes fail by hand or --plug."),
]
FleetBroker = Annotated[
    str | None,
    typer.Option("--broker", metavar="URL", help="Where the fleet meets: mqtt://HOST:PORT, or several with commas."),
]
InventoryFile = Annotated[
    Path | None,
    typer.Option(
        "--inventory",
        metavar="FLEET.toml",
        help="The agents run on the devices of this fleet: its broker, name, certificates and plugs.",
    ),
]
FleetName = Annotated[str | None, typer.Option("--fleet", help="The fleet's name. (default: the bundle's)")]
PlugList = Annotated[
    list[str] | None,
    typer.Option(
        "--plug", metavar="NODE=URL/TOPIC", help="A device's smart plug, for `power` and its Watts: docs/drills.md."
    ),
]
_WHERE: Final[dict[str, tuple[Any, Any]]] = {
    "broker": (BrokerChoice, None),
    "fleet": (FleetName, None),
    "external": (External, False),
    "inventory": (InventoryFile, None),
    "lab": (LabName, None),
    "plugs": (PlugList, None),
    "tls": (TlsFolder, None),
}
Window = Annotated[int, typer.Option(help="How many steps are under way at once.", min=1)]
Rate = Annotated[float, typer.Option(help="Steps a second.", min=0.1, max=100_000)]


def placed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that tell where its fleet is; what they say comes to it as `place`."""
    signature = inspect.signature(command)
    own = [each for each in signature.parameters.values() if each.name != "place"]
    where = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _WHERE.items()
    ]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        from benchmarks.place import place_of

        place = place_of(**{name: arguments.pop(name) for name in _WHERE})
        command(**arguments, place=place)

    parameters = [*own, *where]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def seconds_of(duration: str, option: str = "--for") -> float:
    """Return the seconds in `45s`, `30m` or `8h`, as given to `option`; raises FogError."""
    number, unit = duration[:-1], duration[-1:]
    if not (number.isascii() and number.isdigit() and int(number) and unit in ("s", "m", "h")):
        raise FogError(f"{option} {duration!r}: write seconds, minutes or hours, such as 45s, 30m or 8h")
    return float(int(number) * {"s": 1, "m": 60, "h": 3600}[unit])


def rates_of(offered: str) -> list[float]:
    """Return the steps a second in `50,100,200`; raises FogError."""
    try:
        rates = [float(each) for each in offered.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(0.1 <= rate <= 100_000 for rate in rates):
        raise FogError(f"--offered {offered!r}: write rates in steps a second, such as 50,100,200")
    return rates


def newest_bundle() -> Path:
    """Return the bundle that was exported last to this folder or one below it; raises FogError."""
    manifests = [path for depth in range(3) for path in Path().glob("*/" * depth + MANIFEST)]
    if not manifests:
        raise FogError(f"no bundle in {Path().resolve()} nor below it: `fogguard export RUN --out bundle` makes one")
    return max(manifests, key=lambda path: path.stat().st_mtime).parent


def write(json: Path | None, body: Any, start: Any = None) -> None:
    """Write a result with its head, if a file was asked for."""
    if json:
        import msgspec

        from benchmarks.environment import head, with_head, write_json

        write_json(json, with_head(start or head(began=_BEGAN), msgspec.to_builtins(body)))


def require_writable(json: Path | None, out: Path | None = None, page: Path | None = None) -> None:
    """Fail before the work, not after it."""
    for option, file in (("--json", json), ("--out", out), ("--page", page)):
        if file and not _is_writable(file):
            raise FogError(f"{option} {file}: cannot be written there")


def _is_writable(file: Path) -> bool:
    """Whether a file may be put there: it would replace a pipe, /dev/stdout or /dev/null too."""
    folder = file.resolve().parent
    return (file.is_file() or not file.exists()) and folder.is_dir() and os.access(folder, os.W_OK)
