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
