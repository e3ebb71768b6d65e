"""`fogguard bench` on virtual devices: masks by real cables and real power, compared label for label."""

import json

import pytest
from test_drill_lab import answering  # noqa: F401
from test_provision import NAME, fleet  # noqa: F401

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


def bench(answering, kind, *arguments):  # noqa: F811
    answering.command("bench", kind, answering.bundle.path, "--lab", NAME, *arguments, "--json", "bench.json")
    return json.loads((answering.folder / "bench.json").read_text())


@pytest.mark.parametrize("by", ["cut", "freeze", "kill"])
def test_every_mask_of_a_labs_devices_is_as_predicted(answering, by):  # noqa: F811
    found = bench(answering, "accuracy", "--by", by, "--rows", 150)
    assert len(found["masks"]) == 8
    for each in found["masks"]:
        assert (each["n"], each["labels_equal"], each["lost"]) == (150, 150, 0), each
    for average in found["average"].values():
        assert average["measured"] == pytest.approx(average["predicted"], abs=1e-3)
    answering.require_answers(answering.bundle)


def test_where_the_time_goes_on_a_labs_devices_with_clocks_that_must_be_estimated(answering):  # noqa: F811
    found = bench(answering, "latency", "--steps", 300, "--min-seconds", 2, "--offered", "50")
    assert found["findings"] == []
    assert set(found["stages_ms"]) == set(found["clocks"]) == set(found["devices"]) == {"e1", "f2", "f1", "cloud"}
    for clock in found["clocks"].values():
        assert not clock["shared"]
        assert abs(clock["offset_ms"]) <= clock["error_ms"] < 10  # the truth is nought: it is one kernel
    for wire in found["wires_ms"].values():
        assert wire["error"] > 0
    (load,) = found["loads"]
    assert load["lost"] == 0


@pytest.mark.parametrize(
    ("how", "stage"), [(("--cpu", "10"), "infer"), (("--rate", "200"), "wire")], ids=["processor", "cable"]
)
def test_the_slow_one_of_a_labs_devices_is_named(answering, how, stage):  # noqa: F811
    answering.lab("slow", "f2", *how)
    try:
        words = ("--lab", NAME, "--steps", 200, "--min-seconds", 0, "--offered", "50", "--json", "bench.json")
        said = answering.command("bench", "latency", answering.bundle.path, *words, code=1)
    finally:
        answering.lab("heal", "f2")
    findings = json.loads((answering.folder / "bench.json").read_text())["findings"]
    assert [(each["culprit"], each["stage"]) for each in findings] == [("f2", stage)], said
