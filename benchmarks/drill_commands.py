"""`fogguard drill` and what is made of its results; each command imports what it needs when it is used."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.options import BrokerChoice, BundlePath, Json, Rate, TlsFolder, Window, require_writable, seconds_of
from broker.errors import FogError

field = typer.Typer()

Duration = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="45s, 30m, 8h. [default: one round, or 1m]")
]


@field.command("drill", epilog="Example: fogguard drill demo/bundle --random --setting poor --for 8h --json drill.json")
def drill(
    bundle: BundlePath,
    scenario: Annotated[
        Path | None, typer.Argument(metavar="[SCENARIO.toml]", help="What happens to whom, and when.")
    ] = None,
    random: Annotated[bool, typer.Option("--random", help="Each node is dead as often as a setting says.")] = False,
    by_hand: Annotated[bool, typer.Option("--by-hand", help="Be told what to unplug, and be timed.")] = False,
    duration: Duration = None,
    seed: Annotated[int, typer.Option(help="Of chance, and of whom is asked for when.", min=0)] = 0,
    setting: Annotated[str | None, typer.Option(help="What chance draws from. [default: the last one]")] = None,
    every: Annotated[str, typer.Option(metavar="TIME", help="How often chance draws anew.")] = "5s",
    by: Annotated[
        Literal["kill", "stop", "freeze", "unplug", "cut"] | None,
        typer.Option(help="How chance lets nodes fail. [default: kill; unplug in a lab]"),
    ] = None,
    hold: Annotated[str, typer.Option(metavar="TIME", help="By hand: how long a node stays unplugged.")] = "10s",
    patience: Annotated[str, typer.Option(metavar="TIME", help="By hand: how long to wait for it.")] = "60s",
    rate: Rate = 200.0,
    window: Window = 8,
    broker: BrokerChoice = None,
    fleet: Annotated[str | None, typer.Option(help="The fleet's name. [default: the bundle's]")] = None,
    external: Annotated[bool, typer.Option("--external", help="The agents run elsewhere: only --by-hand.")] = False,
    lab: Annotated[str | None, typer.Option(metavar="NAME", help="The agents run on the devices of this lab.")] = None,
    tls: TlsFolder = None,
    json: Json = None,
) -> None:
    """Feed a fleet while nodes fail by a scenario, by chance or by your hand; compare its answers with the predicted.

    The file that --json names is whole at any moment, and the same command goes on where it was ended.
    """
    from benchmarks.drill_run import Place, Wish, perform, place_of

    modes = [scenario is not None, random, by_hand]
    if sum(modes) != 1:
        raise FogError("say what is to happen, one of three: a SCENARIO.toml, --random or --by-hand")
    require_writable(json)
    place: Place = place_of(broker=broker, fleet=fleet, tls=tls, external=external, lab=lab)
    wish = Wish(
        scenario=scenario,
        random=random,
        duration_s=seconds_of(duration) if duration else None,
        seed=seed,
        setting=setting,
        every_s=seconds_of(every),
        by=by,
        hold_s=seconds_of(hold),
        patience_s=seconds_of(patience),
    )
    perform(bundle, wish, place, rate, window, json)
