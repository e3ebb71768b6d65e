"""`fogguard provision`: from machines that answer on SSH to a running fleet; what a person types and sees."""

import contextlib
import getpass
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.options import BundlePath, Json, require_writable, write
from broker.errors import FailureFound, FogError

provision = typer.Typer(no_args_is_help=True, help="Put agents and a broker on devices that answer on SSH.")

FleetPath = Annotated[Path, typer.Argument(metavar="FLEET", help="The inventory, fleet.toml.")]
Without = Annotated[
    list[str] | None, typer.Option(metavar="DEVICE", help="Leave this device out, as if it were not there; repeatable.")
]
Wheel = Annotated[
    list[str] | None,
    typer.Option(metavar="DEVICE=FILE", help="An onnxruntime of your own for this device; repeatable."),
]
AskSudo = Annotated[
    bool, typer.Option("--ask-sudo-password", help="Ask for it (default: FOGGUARD_SUDO_PASSWORD, or none is needed)")
]


@provision.callback()
def require_installed(context: typer.Context) -> None:
    """Put agents and a broker on devices that answer on SSH."""
    missing = [name for name in ("fabric", "cryptography") if find_spec(name) is None]
    if missing and context.invoked_subcommand != "wheels":
        raise FogError(f"{', '.join(missing)} is not installed here: pip install 'fogguard[provisioning]'")


@provision.command(
    "init", epilog="Example: fogguard provision init fleet.toml --bundle bundle --device e1=pi@10.0.0.11"
)
def init(
    file: Annotated[Path, typer.Argument(metavar="FLEET", help="The inventory to write.")],
    bundle: Annotated[Path, typer.Option(help="What the fleet is to run: its nodes need a device each.")],
    fleet: Annotated[str | None, typer.Option(help="The fleet's name. (default: the bundle's)")] = None,
    device: Annotated[
        list[str] | None, typer.Option(metavar="NODE=USER@HOST[:PORT]", help="Where a node is; repeatable.")
    ] = None,
    broker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE", help="Which device carries it; repeatable, in the order of choice. (default: the sink's)"
        ),
    ] = None,
    key: Annotated[str, typer.Option(help="The SSH key (default: your agent's, or those in ~/.ssh)")] = "",
    pki: Annotated[str, typer.Option(metavar="DIR", help="Certificates by `fogguard pki init`, for TLS.")] = "",
) -> None:
    """Write an inventory; on a terminal, what is not given is asked for."""
    from benchmarks.terminal import say
    from edge_agent.bundle import load
    from provisioning.hosts import Login
    from provisioning.new_inventory import new_file, write_inventory

    manifest = load(bundle).manifest
    given = dict(_assignment(text, "--device NODE=USER@HOST or NODE=USER@HOST:PORT") for text in device or ())
    for node in manifest.nodes:
        if node not in given and sys.stdin.isatty():
            given[node] = typer.prompt(f"{node}: USER@HOST of its device")
    if missing := [node for node in manifest.nodes if node not in given]:
        raise FogError(f"no device for {', '.join(missing)}: --device {missing[0]}=USER@HOST")
    logins = {name: Login.parse(text, f"--device {name}") for name, text in given.items()}
    carriers = broker or [manifest.sink]
    write_inventory(file, new_file(fleet or manifest.name, logins, carriers, key, pki, manifest))
    say(f"wrote {file}: now `fogguard provision enrol {file}` looks who answers there")


@provision.command("enrol", epilog="Example: fogguard provision enrol fleet.toml")
def enrol(
    fleet: FleetPath,
    yes: Annotated[
        bool, typer.Option("--yes", help="Pin what is shown without asking: only in a network you own.")
    ] = False,
) -> None:
    """Show the host key of each device, and pin those that you accept; compare them with what the devices say."""
    from benchmarks.terminal import say
    from provisioning.connection import HostKey
    from provisioning.enrolment import enrol as enrol_device
    from provisioning.enrolment import jumps_of
    from provisioning.inventory import Device, load_inventory

    inventory = load_inventory(fleet)

    def accept(key: HostKey) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise FogError("nobody is here to compare keys: run it in a terminal, or with --yes in a network you own")
        return typer.confirm(f"  {key.fingerprint}\n  is it this device?", default=False, err=True)

    def is_enrolled(name: str, device: Device) -> bool:
        say(f"{name}: {device.address} port {device.port}")
        try:
            key = enrol_device(device, inventory.known_hosts, accept)
        except FailureFound as failure:
            say(f"{name}: {failure}")
            return False
        say(f"{name}: {'pinned' if key.state == 'new' else 'known'}, {key.fingerprint}")
        return True

    everybody = {**jumps_of(dict(inventory.devices)), **inventory.devices}
    if failed := [name for name, device in everybody.items() if not is_enrolled(name, device)]:
        raise FailureFound(f"{', '.join(failed)} not enrolled, see above")


@provision.command("wheels", epilog="Example: fogguard provision wheels --target 3.11-aarch64")
def wheels(
    target: Annotated[
        list[str], typer.Option(metavar="PYTHON-ARCH", help="As `fogguard provision doctor` tells them; repeatable.")
    ],
) -> None:
    """Make the wheelhouse for a kind of device, so that nothing needs the internet later; `apply` does it by itself."""
    from benchmarks.terminal import say
    from provisioning.wheels import Target, wheelhouse

    for each in [Target.parse(text) for text in target]:
        say(f"{each.python}-{each.arch}: {wheelhouse(each, say)}")


@provision.command("doctor", epilog="Example: fogguard provision doctor fleet.toml")
def doctor(
    fleet: FleetPath,
    bundle: Annotated[Path | None, typer.Argument(help="Look whether there is room for this bundle.")] = None,
    without: Without = None,
    wheel: Wheel = None,
    ask_sudo: AskSudo = False,
    json: Json = None,
) -> None:
    """Look at each device: what fits, what does not, and what to do about it."""
    from benchmarks.terminal import print_table
    from provisioning import actions

    require_writable(json)
    inventory, found_bundle, names = _open(fleet, bundle, without, wheel)
    with _followed(names) as say:
        report, findings = actions.examine(inventory, found_bundle, names, _password(ask_sudo), say)
    marks = {"fits": "ok", "note": "note", "unfit": "NO"}
    rows = [
        (name, marks[each.level], each.what, each.detail, each.remedy if each.level != "fits" else "")
        for name, found in findings.items()
        for each in found
    ]
    rows += [(name, "NO", "ssh", each.reason, "") for name, each in report.devices.items() if name not in findings]
    print_table("What fits", ("device", "", "what", "found", "what to do"), rows, wraps=True)
    found = {name: [each._asdict() for each in list_] for name, list_ in findings.items()}
    _finish(json, report, {"findings": found}, "not fit")


@provision.command("plan", epilog="Example: fogguard provision plan fleet.toml bundle")
def plan(
    fleet: FleetPath,
    bundle: BundlePath,
    without: Without = None,
    wheel: Wheel = None,
    ask_sudo: AskSudo = False,
    json: Json = None,
) -> None:
    """Say what `apply` would do, and change nothing."""
    import msgspec

    from benchmarks.terminal import print_table
    from provisioning import actions

    require_writable(json)
    inventory, found, names = _open(fleet, bundle, without, wheel)
    with _followed(names) as say:
        report, steps = actions.plan_fleet(inventory, found, names, _password(ask_sudo), say)
    rows: list[tuple[str, ...]] = []
    for name, device in report.devices.items():
        rows += [(name, each.name, each.why, " ".join(each.names)) for each in steps.get(name, ())]
        if not steps.get(name):
            rows.append((name, "-", device.reason, ""))
    title = f"To bring bundle {found.id.hex()} to {inventory.fleet}"
    print_table(title, ("device", "step", "why", "what"), rows, wraps=True)
    body = {"bundle": found.id.hex(), "plan": {name: msgspec.to_builtins(all_) for name, all_ in steps.items()}}
    _finish(json, report, body, "cannot be planned")


@provision.command("apply", epilog="Example: fogguard provision apply fleet.toml bundle")
def apply(
    fleet: FleetPath,
    bundle: BundlePath,
    without: Without = None,
    wheel: Wheel = None,
    ask_sudo: AskSudo = False,
    json: Json = None,
) -> None:
    """Bring a bundle to the devices, test it there, and then let all of them switch to it at once."""
    from provisioning import actions
    from provisioning.claim import claimed_here

    require_writable(json)
    inventory, found, names = _open(fleet, bundle, without, wheel)
    with claimed_here(fleet), _followed(names) as say:
        report = actions.apply(inventory, found, names, _password(ask_sudo), say)
    _print_report(f"{inventory.fleet}: bundle {found.id.hex()}", report)
    _finish(json, report, {"bundle": found.id.hex()}, "not as wanted")


@provision.command("status", epilog="Example: fogguard provision status fleet.toml bundle")
def status(
    fleet: FleetPath,
    bundle: Annotated[Path | None, typer.Argument(help="Compare the devices with this bundle.")] = None,
    without: Without = None,
    wheel: Wheel = None,
    ask_sudo: AskSudo = False,
    json: Json = None,
) -> None:
    """Say what each device runs, whether it serves, and whether anything there is not what was put there."""
    from benchmarks.terminal import print_table
    from provisioning import actions

    require_writable(json)
    inventory, found, names = _open(fleet, bundle, without, wheel)
    with _followed(names) as say:
        report, health = actions.status(inventory, found, names, _password(ask_sudo), say)
    rows = [(name, *_how_it_is(each, health.get(name))) for name, each in report.devices.items()]
    columns = ("device", "", "bundle", "agent", "broker", "restarts", "what is wrong")
    print_table(f"{inventory.fleet}: {', '.join(inventory.broker_urls)}", columns, rows, wraps=True)
    _finish(json, report, {"drift": {name: each.drift for name, each in health.items()}}, "not well")


@provision.command("rollback", epilog="Example: fogguard provision rollback fleet.toml")
def rollback(fleet: FleetPath, without: Without = None, ask_sudo: AskSudo = False, json: Json = None) -> None:
    """Let all devices run what they ran before the last switch; the same command again goes forward."""
    from provisioning import actions
    from provisioning.claim import claimed_here
    from provisioning.inventory import load_inventory

    require_writable(json)
    inventory = load_inventory(fleet)
    names = inventory.only(without or ())
    with claimed_here(fleet), _followed(names) as say:
        report = actions.rollback(inventory, names, _password(ask_sudo), say)
    _print_report(f"{inventory.fleet}: back", report)
    _finish(json, report, {}, "did not go back")


def _how_it_is(report: Any, health: Any) -> tuple[str, ...]:
    mark, reason = ("ok", "") if report.ok else ("NO", report.reason)
    if health is None:
        return (mark, "", "", "", "", reason)
    broker = health.broker.state if health.broker else ""
    return (mark, health.facts.current_bundle, health.agent.state, broker, str(health.agent.restarts), reason)


def _open(fleet: Path, bundle: Path | None, without: list[str] | None, wheels: list[str] | None) -> Any:
    """Return inventory, bundle if there is one, and the devices that take part."""
    from provisioning.deployment import load_for
    from provisioning.inventory import load_inventory, with_wheels

    own = {name: Path(file) for name, file in (_assignment(text, "--wheel DEVICE=FILE") for text in wheels or ())}
    inventory = with_wheels(load_inventory(fleet), own)
    return inventory, load_for(inventory, bundle) if bundle else None, inventory.only(without or ())


def _assignment(text: str, usage: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        option, form = usage.split(maxsplit=1)
        raise FogError(f"{option} {text!r}: write {form}")
    return name, value


def _password(ask: bool) -> str:
    return getpass.getpass("sudo password of the devices: ") if ask else os.environ.get("FOGGUARD_SUDO_PASSWORD", "")


@contextlib.contextmanager
def _followed(names: Any) -> Iterator[Any]:
    """Yield a function that shows what is done on which device: a live table on a terminal, lines elsewhere."""
    from benchmarks.terminal import live_table, notes, say

    if not notes.is_terminal:
        yield lambda name, what: say(f"{name}: {what}")
        return
    with live_table(("device", "now"), dict.fromkeys(names, ("waiting",))) as update:
        yield lambda name, what: update(name, (what,))


def _print_report(title: str, report: Any) -> None:
    from benchmarks.terminal import print_table

    rows = [
        (
            name,
            "ok" if each.ok else "NO",
            " ".join(f"{step.name} {step.seconds:.1f}" for step in each.steps),
            each.reason,
        )
        for name, each in report.devices.items()
    ]
    print_table(f"{title}, {report.seconds:.1f} s", ("device", "", "steps, s", ""), rows, wraps=True)


def _finish(json: Path | None, report: Any, body: dict[str, Any], what: str) -> None:
    """Write the result, and end with exit code 1 if a device is not ok."""
    import msgspec

    write(json, {**body, **msgspec.to_builtins(report)})
    if report.failed:
        first = report.failed[0]
        raise FailureFound(
            f"{len(report.failed)} of {len(report.devices)} devices {what}: {first}: {report.devices[first].reason}"
        )
