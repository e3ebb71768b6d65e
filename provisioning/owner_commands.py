"""What a fleet's owner does: `fogguard pki`, `sign` and `ask`; each imports what it needs when it is used."""

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from benchmarks.options import BundlePath, FleetBroker, InventoryFile, Json, TlsFolder, require_writable, write
from broker.errors import FogError
from broker.tls import Tls, files_of
from broker.topics import require_name
from broker.url import BrokerUrl, parse_urls

_HERE: Final = "mqtt://127.0.0.1:1883"
owner = typer.Typer()
pki = typer.Typer(no_args_is_help=True, help="Make the certificates and keys of a fleet.")
owner.add_typer(pki, name="pki")


@owner.command(epilog="Example: fogguard sign bundle --key pki/signing.key")
def sign(
    bundle: BundlePath,
    key: Annotated[Path, typer.Option(metavar="FILE", help="An Ed25519 key, as `fogguard pki init` makes one.")],
    json: Json = None,
) -> None:
    """Sign a bundle: devices that are told so load no other."""
    from benchmarks.terminal import say
    from edge_agent.signature import key_id
    from provisioning.signing import sign_bundle

    require_writable(json)
    signed, public = sign_bundle(bundle, key)
    say(f"signed {bundle}, bundle {signed.id.hex()}, with key {key_id(public)}")
    write(json, {"bundle": signed.id.hex(), "key": public.hex()})


@pki.command("init", epilog="Example: fogguard pki init pki --fleet house --bundle bundle --host broker.local")
def pki_init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Kept by the fleet's owner; keys do not leave it.")],
    fleet: Annotated[str, typer.Option(help="The fleet's name.")],
    bundle: Annotated[Path | None, typer.Option(help="What the fleet runs: its nodes and sensors.")] = None,
    nodes: Annotated[str, typer.Option(metavar="NAME,…", help="Nodes and sensors, if there is no bundle yet.")] = "",
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME|IP", help="Where the broker is, besides this machine; repeatable.")
    ] = None,
    json: Json = None,
) -> None:
    """Make a certificate authority, and a certificate for each member of a fleet; only what is missing is made."""
    import msgspec

    from benchmarks.terminal import say
    from edge_agent.bundle import load
    from provisioning.pki import init, renewal

    if bundle and nodes:
        raise FogError("--bundle names the nodes already: leave out --nodes")
    require_writable(json)
    names = load(bundle).manifest.names if bundle else tuple(filter(None, nodes.split(",")))
    found = init(folder, fleet, names, host or ())
    say(f"{folder}: made {', '.join(found.made) or 'nothing'}; {len(found.kept)} files were there")
    for name in found.expiring:
        say(f"{name}.crt ends on {found.expires[name]}: {renewal(name)}")
    write(json, msgspec.to_builtins(found))


def _fleet(
    broker: str | None, name: str | None, tls: Path | None, inventory: Path | None
) -> tuple[list[BrokerUrl], str, Tls | None]:
    """Return a fleet's brokers, name and operator's certificate: the inventory's, where no option names another."""
    from provisioning.pki import OPERATOR

    if inventory:
        from provisioning.inventory import load_inventory

        known = load_inventory(inventory)
        broker, name, tls = broker or ",".join(known.broker_urls), name or known.fleet, tls or known.pki
    if not name:
        raise FogError("name the fleet with --fleet NAME, or --inventory fleet.toml")
    return parse_urls(broker or _HERE), require_name(name, "fleet"), files_of(tls, OPERATOR) if tls else None


@owner.command(epilog="Example: fogguard ask f1 metrics --inventory fleet.toml")
def ask(
    node: Annotated[str, typer.Argument(help="Which node, or all.")],
    command: Annotated[
        Literal["ping", "metrics", "trace", "host", "speed", "probe", "return"],
        typer.Argument(
            help="What; trace: when what happened to its last steps; host: its heat, load, power; "
            "speed: how long its graph takes; return: go back to the "
            "first broker; probe: would it let you in?"
        ),
    ] = "ping",
    fleet: Annotated[str | None, typer.Option(help="The fleet's name.")] = None,
    broker: FleetBroker = None,
    inventory: InventoryFile = None,
    tls: TlsFolder = None,
    json: Json = None,
) -> None:
    """Ask nodes whether they are there, how they are, what they did; or tell them to go back to their first broker."""
    import time

    import msgspec

    from benchmarks.terminal import results
    from provisioning import asking

    require_writable(json)
    require_name(node, "node")
    urls, name, files = _fleet(broker, fleet, tls, inventory)
    began_s = time.monotonic()
    if node != "all" and len(urls) == 1 and command != "return":
        replies = asking.ask(urls[0], name, [node], command, files)
    else:
        found = asking.find(urls, name, files)
        if node != "all" and node not in found:
            where = ", ".join(map(str, urls))
            raise asking.NoReply(f"{node} of fleet {name} is not online at {where}: {', '.join(found)} are")
        places = found if node == "all" else {node: found[node]}
        if command == "return":
            replies = asking.bring_back(places, urls[0], name, files)
            stayed = [each for each in places if each not in replies]
            results.print(f"{len(replies)} came back to {urls[0]}, {len(stayed)} were there")
        else:
            replies = asking.ask_wherever(places, name, command, files)
    seconds = time.monotonic() - began_s
    for each, reply in replies.items():
        results.print(f"{each}: epoch {reply.epoch}, bundle {reply.bundle}, at {reply.broker}", soft_wrap=True)
        if reply.refusal:
            results.print(f"{each}: cannot go back: {reply.refusal}", soft_wrap=True)
        if reply.infer_ms:
            results.print(f"{each}: {reply.infer_ms:.3f} ms an inference", soft_wrap=True)
        for told in filter(None, (reply.metrics, reply.trace, reply.host)):
            results.print_json(msgspec.json.encode(told).decode())
    results.print(f"answered within {1e3 * seconds:.0f} ms")
    every = {each: msgspec.to_builtins(reply) for each, reply in replies.items()}
    write(json, {**every.get(node, {"nodes": every}), "seconds": seconds})


@owner.command(epilog="Example: fogguard deadlines bundle --inventory fleet.toml --json deadlines.json")
def deadlines(
    bundle: BundlePath,
    fleet: Annotated[str | None, typer.Option(help="The fleet's name. (default: the bundle's)")] = None,
    margin: Annotated[float, typer.Option(help="How many times the 99th percentile a hop may take.", min=1)] = 4.0,
    broker: FleetBroker = None,
    inventory: InventoryFile = None,
    tls: TlsFolder = None,
    json: Json = None,
) -> None:
    """Derive each node's deadline from what a running fleet measured; `fogguard export --deadlines` takes the file."""
    from benchmarks.terminal import print_table
    from edge_agent.bundle import load
    from provisioning import asking
    from provisioning.deadlines import derive

    require_writable(json)
    loaded = load(bundle)
    manifest = loaded.manifest
    named = fleet or (None if inventory else manifest.name)
    urls, name, files = _fleet(broker, named, tls, inventory)
    places = asking.find(urls, name, files)
    absent = [node for node in manifest.nodes if node not in places]
    if absent:
        raise asking.NoReply(f"{', '.join(absent)} of fleet {name} is not online: all must have run for a while")
    replies = asking.ask_wherever({node: places[node] for node in manifest.nodes}, name, "metrics", files)
    strange = [node for node, reply in replies.items() if reply.bundle != loaded.id.hex()]
    if strange:
        raise FogError(f"{', '.join(strange)} of fleet {name} runs another bundle than {bundle}, {loaded.id.hex()}")
    found = derive(manifest.inputs, {node: reply.metrics for node, reply in replies.items() if reply.metrics}, margin)
    rows = [
        (node, each.source, f"{each.wait_ms:.3f}", f"{manifest.deadlines_ms[node]:.1f}", f"{each.deadline_ms:.1f}")
        for node, each in found.items()
    ]
    print_table("deadlines", ("node", "slowest source", "99 of 100 within ms", "now ms", "derived ms"), rows)
    write(json, {"deadlines_ms": {node: each.deadline_ms for node, each in found.items()}, "margin": margin})
