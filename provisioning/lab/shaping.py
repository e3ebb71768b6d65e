"""Cables that are slow or lossy, in both directions: by netem where the kernel has it, else by tbf and nftables."""

from provisioning.lab.layout import Device, Lab, LabError
from provisioning.lab.network import NAMESPACES
from provisioning.lab.programs import attempt, require, run


def slow_down(lab: Lab, device: Device, rate_kbit: int | None, delay_ms: float | None) -> None:
    """Let a cable carry so many kilobits a second, and each packet take so much longer."""
    rate = f" rate {rate_kbit}kbit" if rate_kbit else ""
    delay = f" delay {delay_ms}ms" if delay_ms else ""
    if not (
        _shape(lab, device, f"netem{delay}{rate}")
        or (rate and not delay and _shape(lab, device, f"tbf{rate} burst 3kb latency 1s"))
    ):
        raise LabError(f"this kernel has no netem: there is no {'--delay' if delay else '--rate'} here")
    _keep_all(lab, device)


def lose(lab: Lab, device: Device, percent: float) -> None:
    """Lose so many percent of the packets on a cable."""
    if _shape(lab, device, f"netem loss {percent}%"):
        return
    require(["nft"])
    straighten(lab, device)
    chance = f"numgen random mod 10000 < {round(100 * percent)} drop"
    chains = "".join(
        f"chain {hook} {{ type filter hook {hook} device {device.port} priority 0; {chance}; }}\n"
        for hook in ("ingress", "egress")
    )
    run([*_inside(lab), "nft", "-f", "-"], f"table netdev {device.port} {{\n{chains}}}\n")


def straighten(lab: Lab, device: Device) -> None:
    """Make a cable as it was."""
    for command in _tc(lab, device, "del"):
        attempt([*command, "root"])
    _keep_all(lab, device)


def _keep_all(lab: Lab, device: Device) -> None:
    if _lost(lab, device):
        run([*_inside(lab), "nft", "delete", "table", "netdev", device.port])


def shape_of(lab: Lab, device: Device) -> str:
    """Return in the words of tc what was done to a cable, or nothing."""
    _, kind, *words = attempt(_tc(lab, device, "show")[0]).stdout.split() or ["", "noqueue"]
    shaped = [] if kind == "noqueue" else [" ".join([kind, *words[words.index("refcnt") + 2 :]])]
    return ", ".join(shaped + _lost(lab, device))


def _shape(lab: Lab, device: Device, discipline: str) -> bool:
    """Put a queueing discipline on both ends of a cable; return whether the kernel has it."""
    commands = _tc(lab, device, "replace")
    return not any(attempt([*command, "root", *discipline.split()]).returncode for command in commands)


def _tc(lab: Lab, device: Device, verb: str) -> list[list[str]]:
    """Return the beginning of a command about the queueing discipline at each end of a cable, the bridge's first."""
    ends = ((lab.namespace, device.port), (lab.namespace_of(device), "eth0"))
    return [["tc", "-n", namespace, "qdisc", verb, "dev", link] for namespace, link in ends]


def _lost(lab: Lab, device: Device) -> list[str]:
    shown = attempt([*_inside(lab), "nft", "list", "table", "netdev", device.port]).stdout
    return [f"loss {int(shown.split(' < ')[1].split()[0]) / 100:g}%"] if " < " in shown else []


def _inside(lab: Lab) -> list[str]:
    return ["nsenter", f"--net={NAMESPACES / lab.namespace}"]
