"""What a report shows of a running fleet: where each step's time goes, what load is borne, who is to blame."""

from collections.abc import Mapping

import msgspec

from benchmarks.culprits import Finding
from benchmarks.sections import Picture, Report, Result, Section, blame, to_blame
from benchmarks.stage_figures import draw_loads, draw_waterfall
from benchmarks.stages import STAGES, Bar

_QUANTILES = ("p50", "p90", "p95", "p99", "p99.9")


def of_stages(result: Result) -> Report:
    """Return what to show of `bench latency` on devices."""
    ok, blamed, sections = stages_of(result)
    verdict = f"{result['n']} steps one by one. {blamed}"
    return Report("Where the time of a step goes", ok, verdict, sections)


def stages_of(result: Result) -> tuple[bool | None, str, list[Section]]:
    """Return whether somebody is to blame, who, and the sections; in all results of `bench latency`."""
    findings = msgspec.convert(result["findings"], list[Finding])
    sections = [_answers(result), _waterfall(result), _stages(result), _wires(result)]
    sections += [_loads(result)] if result["loads"] else []
    sections += [_devices(result), _bytes(result)]
    if not findings and not result["unanswered"]:
        return None, "Nobody holds it up.", sections
    lost = " A step was not answered." if result["unanswered"] else ""
    return False, f"{to_blame(findings)}{lost}", [blame(findings), *sections]


def _answers(result: Result) -> Section:
    rows = [["fleet, one by one", *_ms(result["answers_ms"])], ["whole network here", *_ms(result["whole_ms"])]]
    overhead = result.get("harness_overhead")
    note = "The whole network is all graphs one after the other in one process on the measuring machine."
    if overhead is not None:
        note += f" Asking and overhearing adds {100 * overhead:.1f} % to the median answer."
    return Section("Answer times, ms", columns=("", *_QUANTILES), rows=rows, note=note)


def _waterfall(result: Result) -> Section:
    bars = msgspec.convert(result["waterfall"]["bars"], list[Bar])
    took_ms = float(result["waterfall"]["ms"])
    picture = Picture("waterfall", (10, 1.2 + 0.5 * len(bars)), lambda axes: draw_waterfall(axes, bars, took_ms))
    rows = [
        [
            *(bar.node, bar.source, f"{bar.wire_from_ms:.3f}"),
            f"{bar.opened_ms - bar.wire_from_ms:.3f} ± {bar.error_ms:.3f}",
            f"{bar.closed_ms - bar.opened_ms:.3f}",
            f"{bar.inferred_ms - bar.closed_ms:.3f}",
            f"{bar.published_ms - bar.inferred_ms:.3f}",
        ]
        for bar in bars
    ]
    return Section(
        f"One step of {took_ms:.2f} ms, the median",
        picture if bars else None,
        ("node", "opened by", "sent at ms", "wire", "wait", "infer", "publish"),
        rows,
        note="A node's row begins when what opened the step there was sent. What arrives before its sender has done "
        "with publishing was 0 ms on the wire.",
    )


def _stages(result: Result) -> Section:
    shown = ("p50", "p95", "p99")
    rows = [
        [node, *(f"{stages[stage][q]:.3f}" if stages[stage] else "" for stage in STAGES for q in shown)]
        for node, stages in result["stages_ms"].items()
    ]
    return Section("Stages, ms", columns=("node", *(f"{stage} {q}" for stage in STAGES for q in shown)), rows=rows)


def _wires(result: Result) -> Section:
    clocks: Mapping[str, Mapping[str, float]] = result["clocks"]
    apart = ", ".join(
        f"{node} {'has the clock of this machine' if each['shared'] else _offset(each)}"
        for node, each in clocks.items()
    )
    return Section(
        "Wires, ms",
        columns=("", *_QUANTILES, "±"),
        rows=[[name, *_ms(each), f"{each['error']:.3f}"] for name, each in result["wires_ms"].items()],
        note=f"Clocks: {apart}.",
    )


def _offset(clock: Mapping[str, float]) -> str:
    return f"is {clock['offset_ms']:+.3f} ± {clock['error_ms']:.3f} ms ahead"


def _loads(result: Result) -> Section:
    loads = result["loads"]
    picture = Picture("loads", (10, 3.6), lambda axes: draw_loads(axes, loads))
    rows = [
        [_told(each["offered_per_s"]), _told(each["answered_per_s"]), str(each["lost"]), *_ms(each["answers_ms"])]
        for each in loads
    ]
    return Section(
        "Offered load",
        picture if any(each["answers_ms"] for each in loads) else None,
        ("offered a second", "answered a second", "lost", *_QUANTILES),
        rows,
        bad=frozenset(number for number, each in enumerate(loads) if not each["borne"]),
        note="Times in ms since a step was due, whether it could be sent then or not.",
    )


def _devices(result: Result) -> Section:
    names = list(dict.fromkeys(name for each in result["devices"].values() for name in each))
    infer_ms = [result["infer_ms"][where] for where in ("there", "here")]
    rows = [
        [node, *(_told(times.get(node)) for times in infer_ms), *(_told(each.get(name)) for name in names)]
        for node, each in result["devices"].items()
    ]
    columns = ("node", "infers in ms", "here in ms", *(name.replace("_", " ") for name in names))
    note = "Inferences one after the other, on the device and on the measuring machine. What a device does not tell is "
    return Section("Devices", columns=columns, rows=rows, note=f"{note}not shown.")


def _told(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _bytes(result: Result) -> Section:
    return Section(
        "Bytes of a step",
        columns=("hyperconnection", "its sender", "its receiver"),
        rows=[[name, str(each["sent"]), str(each["received"])] for name, each in result["bytes"].items()],
        note="A vector is published once: the broker passes it on along skips too.",
    )


def _ms(found: Mapping[str, float]) -> list[str]:
    return [f"{found[name]:.3f}" if name in found else "" for name in _QUANTILES]
