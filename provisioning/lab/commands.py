"""`fogguard lab`: virtual devices, made, unplugged and taken down from the command line."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmarks.options import Json, require_writable, write

if TYPE_CHECKING:
    from provisioning.lab.layout import Device, Lab

lab = typer.Typer(
    no_args_is_help=True,
    help="Run a fleet of virtual devices: each with an address, disk, init and sshd, and a plug to pull. Needs root.",
)

Name = Annotated[str, typer.Option("--name", help="Which lab, where there are several.")]
Node = Annotated[str, typer.Argument(metavar="NODE", help="A device, or the node that it carries.")]
Command = Annotated[list[str] | None, typer.Argument(metavar="COMMAND…", help="(default: a shell)", show_default=False)]
_VERBATIM = {"allow_interspersed_args": False}


@lab.command("up", epilog="Example: fogguard lab up watch --arch f1=arm64")
def up(
    what: Annotated[str, typer.Argument(metavar="SPEC|N", help="A fog.toml or built-in specification, or how many.")],
    arch: Annotated[
        list[str] | None, typer.Option(help="amd64 or arm64 for all, DEVICE=arm64 for one. (default: as this machine)")
    ] = None,
    broker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE",
            help="Which carries a broker, one more if it is no node's; repeatable, in the order of choice. "
            "(default: the sink's)",
        ),
    ] = None,
    suite: Annotated[Literal["bookworm", "trixie"], typer.Option(help="Debian 12 or 13.")] = "bookworm",
    fleet: Annotated[Path, typer.Option(help="Write the inventory for `fogguard provision` here.")] = Path(
        "lab/fleet.toml"
    ),
    name: Name = "lab",
    json: Json = None,
) -> None:
    """Make a device for each node, or so many, and boot them; once, this makes a Debian base (half a minute)."""
    from benchmarks.terminal import say
    from export.spec import load_spec
    from provisioning.lab import emulation, layout, programs, store
    from provisioning.lab import fleet as devices

    programs.require_root()
    require_writable(json)
    chosen = int(what) if what.isdecimal() else load_spec(what)
    choices = [emulation.host_arch(), *(arch or [])]
    wanted = layout.new_lab(chosen, name, suite, choices, str(fleet.absolute()), broker or ())
    there = store.find(name)
    start = time.monotonic()
    if there is None:
        devices.up(wanted, say)
    elif not there.whole:
        raise layout.LabError(f"lab {name} was left half made: `fogguard lab down --name {name}` removes it")
    elif (there.devices, there.suite, there.brokers) != (wanted.devices, wanted.suite, wanted.brokers):
        names = ", ".join(device.name for device in there.devices)
        raise layout.LabError(f"lab {name} is up already, with {names}: take it down first, or choose another --name")
    else:
        say(f"lab {name} is up already")
    found = store.find(name) or wanted
    _show(found, json, time.monotonic() - start)
    run, ssh = layout.to_type(name, "run", "COMMAND…"), layout.to_type(name, "ssh", "NODE")
    say(f"inventory: {found.fleet}; reach the devices with {run} or {ssh}")


@lab.command("status", epilog="Example: fogguard lab status --json status.json")
def status(name: Name = "lab", json: Json = None) -> None:
    """Show how each device is."""
    from provisioning.lab import programs, store

    programs.require_root()
    require_writable(json)
    with store.opened(name) as there:
        _show(there, json, None)


@lab.command("down", epilog="Example: fogguard lab down")
def down(name: Name = "lab") -> None:
    """Switch all devices off and remove them, and all else but the Debian base; also what an `up` left half made."""
    from benchmarks.terminal import say
    from provisioning.lab import fleet, programs, store

    programs.require_root()
    with store.opened(name) as there:
        fleet.down(there)
    say(f"lab {name} is gone")


@lab.command("run", epilog="Example: fogguard lab run ping -c 1 10.77.0.10", context_settings=_VERBATIM)
def run(command: Command = None, name: Name = "lab") -> None:
    """Run a command in the lab's network: from there the devices are reached, and nothing else is."""
    from provisioning.lab import network, programs, store

    programs.require_root()
    with store.opened(name) as there:
        network.enter(there.namespace)
    _become(command or [os.environ.get("SHELL", "sh")])


@lab.command("ssh", epilog="Example: fogguard lab ssh f1 systemctl status", context_settings=_VERBATIM)
def ssh(node: Node, command: Command = None, name: Name = "lab") -> None:
    """Log in to a device, or run a command there, with the lab's key and the host keys that it made."""
    from provisioning.lab import network, programs, store

    programs.require_root()
    with store.opened(name) as there:
        login = store.ssh_command(there, there.device(node))
        network.enter(there.namespace)
    _become([*login, *(command or [])])


def _become(command: list[str]) -> None:
    """Go on as another program."""
    from provisioning.lab.layout import LabError

    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        raise LabError(f"{command[0]}: cannot be run ({error.strerror})") from error


@lab.command("unplug", epilog="Example: fogguard lab unplug f1")
def unplug(node: Node, name: Name = "lab", json: Json = None) -> None:
    """Cut a device's power: it says no farewell, and what was not synced to its disk is lost."""
    from provisioning.lab import fleet

    _do("power cut", fleet.unplug, node, name, json)


@lab.command("plug", epilog="Example: fogguard lab plug f1")
def plug(node: Node, name: Name = "lab", json: Json = None) -> None:
    """Boot a device that was unplugged or killed, and wait until it answers."""
    from provisioning.lab import fleet

    _do("booted", fleet.plug, node, name, json)


@lab.command("kill", epilog="Example: fogguard lab kill f1")
def kill(node: Node, name: Name = "lab", json: Json = None) -> None:
    """Kill all processes of a device at once: its connections are closed, and its disk is written."""
    from provisioning.lab import fleet

    _do("killed", fleet.kill, node, name, json)


@lab.command("freeze", epilog="Example: fogguard lab freeze f1")
def freeze(node: Node, name: Name = "lab", json: Json = None) -> None:
    """Stop all processes of a device where they are: its connections stay, and nobody answers."""
    from provisioning.lab import fleet

    _do("frozen", fleet.freeze, node, name, json)


@lab.command("thaw", epilog="Example: fogguard lab thaw f1")
def thaw(node: Node, name: Name = "lab", json: Json = None) -> None:
    """Let a frozen device go on."""
    from provisioning.lab import fleet

    _do("thawed", fleet.thaw, node, name, json)


@lab.command("reboot", epilog="Example: fogguard lab reboot f1")
def reboot(node: Node, name: Name = "lab", json: Json = None) -> None:
    """Let a device shut down in good order and boot again, and wait until it answers."""
    from provisioning.lab import fleet

    _do("rebooted", fleet.reboot, node, name, json)


@lab.command("cut", epilog="Example: fogguard lab cut f1")
def cut(node: Node, name: Name = "lab", json: Json = None) -> None:
    """Pull a device's network cable."""
    from provisioning.lab import fleet

    _do("cut off", fleet.cut, node, name, json)


@lab.command("slow", epilog="Example: fogguard lab slow f1 --cpu 5")
def slow(
    node: Node,
    cpu: Annotated[float | None, typer.Option(help="Percent of one core. (default: 10)", min=1, max=100)] = None,
    rate: Annotated[int | None, typer.Option(metavar="KBIT", help="Kilobits a second on its cable.", min=8)] = None,
    delay: Annotated[float | None, typer.Option(metavar="MS", help="How much longer each packet takes.", min=0)] = None,
    name: Name = "lab",
    json: Json = None,
) -> None:
    """Slow a device's processor, or its cable; what is said about the cable replaces what was said before."""
    from provisioning.lab import fleet

    cpu = 10.0 if (cpu, rate, delay) == (None, None, None) else cpu
    _do("slowed", lambda there, device: fleet.slow(there, device, cpu, rate, delay), node, name, json)


@lab.command("lossy", epilog="Example: fogguard lab lossy f1 --loss 5")
def lossy(
    node: Node,
    loss: Annotated[float, typer.Option(help="Percent of the packets, each way.", min=0.01, max=100)] = 10.0,
    name: Name = "lab",
    json: Json = None,
) -> None:
    """Lose some of the packets on a device's cable; this replaces what was said about the cable before."""
    from provisioning.lab import fleet

    _do("made lossy", lambda there, device: fleet.lossy(there, device, loss), node, name, json)


@lab.command("heal", epilog="Example: fogguard lab heal f1")
def heal(node: Node, name: Name = "lab", json: Json = None) -> None:
    """Undo `cut`, `slow` and `lossy`."""
    from provisioning.lab import fleet

    _do("healed", fleet.heal, node, name, json)


def _do(done: str, action: "Callable[[Lab, Device], None]", node: str, name: str, json: Path | None) -> None:
    """Do something to one device, and say what and how long it took."""
    from benchmarks.terminal import say
    from provisioning.lab import programs, store

    programs.require_root()
    require_writable(json)
    with store.opened(name) as there:
        device = there.device(node)
        start = time.monotonic()
        action(there, device)
        seconds = time.monotonic() - start
    say(f"{device.name}: {done} ({seconds:.2f} s)")
    write(json, {"lab": name, "device": device.name, "done": done, "seconds": seconds})


def _show(there: "Lab", json: Path | None, seconds: float | None) -> None:
    """Print how each device is."""
    from benchmarks.terminal import print_table
    from provisioning.lab import fleet

    found = [fleet.status(there, device) for device in there.devices]
    rows = [
        (
            *(each.name, each.node or "-", each.arch, each.address, each.state),
            *("yes" if each.answers else "no", str(each.processes), f"{each.memory_mb:.0f}"),
        )
        for each in found
    ]
    columns = ("device", "node", "arch", "address", "state", "answers", "processes", "memory MB")
    print_table(f"lab {there.name}, Debian {there.suite}", columns, rows)
    devices = {each.name: each._asdict() for each in found}
    write(json, {"lab": there.name, "fleet": there.fleet, "seconds": seconds, "devices": devices})
