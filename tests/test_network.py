import copy
import dataclasses
import re

import numpy as np
import pytest
import torch

from export.average import measure
from export.data import load_data
from export.data.rows import DataError
from export.evaluation import chance
from export.failures import masks
from export.heldout import held_out
from export.network import Network
from export.node import Node, Sensor, Source, build_units
from export.runs import one_seed
from export.spec import Dense, load_spec, parse_spec
from export.training import train
from export.variants import VARIANTS, Choice, Variant, VariantError

SPEC = load_spec("watch")
QUICK = parse_spec(SPEC.text.replace("epochs = 40", "epochs = 2"))


def network(seeds=(0,)):
    sensors = {"iot": Sensor(torch.full((36,), 0.5), torch.full((36,), 2.0))}
    return Network(SPEC, 7, sensors, Variant(), seeds).eval()


def alive(mask):
    return torch.tensor([[bit == "1" for bit in mask]])


def test_each_row_may_have_its_own_failures():
    net, raw = network(), torch.randn(8, 36)
    mixed, informed = net({"iot": raw}, torch.cat([alive(mask) for mask in masks(3)]))
    for row, mask in enumerate(masks(3)):
        alone, there = net({"iot": raw[row : row + 1]}, alive(mask))
        assert informed[row] == there[0]
        if there[0]:
            torch.testing.assert_close(mixed[:, row : row + 1], alone)


def test_a_sensor_of_the_data_set_that_the_specification_does_not_take_is_left_out():
    watch = load_data("watch")
    rows = dataclasses.replace(watch, sensors={"spare": watch.sensors["iot"][:, :3], **watch.sensors})
    trained = train(QUICK, rows, VARIANTS["vanilla"], [0])
    held = held_out(rows, "row", 0)
    found = measure(trained.network, held, trained.prior, QUICK.order, QUICK.settings, [0])
    assert found.seeds[0].per_mask["111"] > 2 * chance(held, trained.prior)


def test_several_draws_for_each_row_are_as_so_many_rows():
    net, raw = network((0, 1)), torch.randn(3, 36)
    combinations = torch.rand(2, 12, 3) < 0.6  # of two seeds, for four draws of three rows
    drawn, informed = net({"iot": raw}, combinations, draws=4)
    rows, there = net({"iot": raw.repeat(4, 1)}, combinations)
    assert torch.equal(informed, there)
    torch.testing.assert_close(drawn, rows)


def test_what_a_dead_node_would_have_said_cannot_matter():
    net = network()
    with torch.no_grad():
        broken = copy.deepcopy(net)
        for weight in broken.nodes["f1"].parameters():
            weight.fill_(float("nan"))
    raw = {"iot": torch.randn(4, 36)}
    torch.testing.assert_close(broken(raw, alive("011"))[0], net(raw, alive("011"))[0])


def test_a_dead_node_learns_nothing():
    net = network()
    logits, _ = net({"iot": torch.randn(4, 36)}, alive("011"))
    logits.sum().backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in net.nodes["f1"].parameters())
    assert all(weight.grad.any() for name, weight in net.nodes["f2"].named_parameters() if name.endswith("weight"))


def test_shorter_vectors_are_padded_to_the_expansion_layer():
    node = Node([Source(3), Source(5)], Dense(layers=(2,)), Variant(), torch.randn)
    short, long = torch.randn(1, 3), torch.randn(1, 5)
    padded = torch.cat([short, torch.zeros(1, 2)], dim=1)
    torch.testing.assert_close(node(short, long), node.units(padded + long))
    assert node.join.width == 5


def test_a_map_begins_as_the_zero_padding_that_it_stands_for():
    sources = [Source(3), Source(5)]
    plain = Node(sources, Dense(layers=(2,)), Variant(), torch.ones)
    mapped = Node(sources, Dense(layers=(2,)), Variant(maps="all"), torch.ones)
    xs = torch.randn(1, 3), torch.randn(1, 5)
    torch.testing.assert_close(plain(*xs), mapped(*xs))
    assert list(mapped.join.maps) == ["0", "1"]
    assert list(Node(sources, Dense(layers=(2,)), Variant(maps="widths"), torch.ones).join.maps) == ["0"]
    assert build_units(Dense(layers=(2, 3)), 5, torch.ones)(torch.ones(1, 5)).shape == (1, 3)


def test_seeds_trained_together_are_those_trained_alone():
    rows = load_data("watch")
    together = train(QUICK, rows, VARIANTS["fogguard"], [3, 4])
    alone = train(QUICK, rows, VARIANTS["fogguard"], [4])
    one, other = one_seed(together.network, 4), one_seed(alone.network, 4)
    raw = {"iot": torch.from_numpy(rows.sensors["iot"][:200])}
    with torch.inference_mode():
        a, b = one(raw, alive("101"))[0], other(raw, alive("101"))[0]
    # rounding in another order is all that may differ
    assert (a.argmax(-1) == b.argmax(-1)).float().mean() > 0.97
    assert together.validation_accuracy[1] == pytest.approx(alone.validation_accuracy[0], abs=0.02)


def test_training_learns_and_is_the_same_for_a_seed():
    rows = load_data("watch")
    told = []
    first = train(QUICK, rows, VARIANTS["failout"], [3], lambda *each: told.append(each))
    again = train(QUICK, rows, VARIANTS["failout"], [3])
    other = train(QUICK, rows, VARIANTS["failout"], [4])
    weights = first.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in again.network.state_dict().items())
    assert not torch.equal(weights["nodes.e1.units.0.weight"], other.network.state_dict()["nodes.e1.units.0.weight"])
    assert [(done, total) for done, total, _ in told] == [(step, 60) for step in range(1, 61)]
    assert first.validation_accuracy[0] > 0.4
    assert first.epochs[0] in (1, 2)
    assert sum(first.prior) == pytest.approx(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"mux": True},
        {"weights": "reliability"},
        {"weights": "normalised"},
        {"weights": "learned"},
        {"maps": "all"},
        {"normalise": True},
        {"failures": "hazardous"},
        {"failures": "settings"},
        {"failures": 0.3},
    ],
)
def test_every_option_trains(changes):
    choice = Choice.of("failout", changes)
    trained = train(QUICK, load_data("watch"), choice.variant, [0, 1])
    assert min(trained.validation_accuracy) > 0.3
    assert choice.name == f"failout {next(iter(changes))}={next(iter(changes.values()))}"


def test_failures_that_are_no_rate_and_no_setting_are_refused():
    with pytest.raises(VariantError, match="give a rate from 0 to below 1"):
        Choice.of("failout", {"failures": "1"})
    with pytest.raises(VariantError, match="watch has the settings no_failure, normal, poor, hazardous"):
        train(QUICK, load_data("watch"), Choice.of("failout", {"failures": "stormy"}).variant, [0])


def test_a_long_choice_has_a_name_that_a_disk_takes_and_no_other_choice_has():
    skips = [",".join(f"node-number-{number}>{end}" for number in range(12)) for end in ("f1", "f2")]
    slugs = {Choice.of("fogguard", skips=each).slug for each in (*skips, "e1>f1")}
    assert len(slugs) == 3
    assert max(map(len, slugs)) < 150
    assert "fogguard-skips-e1-f1" in slugs


def test_weights_from_a_setting_that_is_not_there_are_refused():
    bare = parse_spec(QUICK.text.replace("hazardous", "stormy"))
    for weights in ("reliability", "normalised"):
        with pytest.raises(VariantError, match=f"weights {weights}: watch has no setting hazardous"):
            train(bare, load_data("watch"), Variant(weights=weights), [0])


@pytest.mark.parametrize(("old", "new"), [("e1", "cpu"), ("iot", "values"), ("cloud", "training")])
def test_a_name_that_torch_has_taken_is_one_sentence(old, new):
    spec = parse_spec(re.sub(rf"\b{old}\b", new, QUICK.text))
    with pytest.raises(VariantError, match=f"torch calls something of its own '{new}'"):
        Network(spec, 7, {name: Sensor(torch.zeros(36), torch.ones(36)) for name in spec.sensors}, Variant(), [0])


def test_rows_that_are_not_the_specification_s_are_refused():
    rows = load_data("watch")
    with pytest.raises(DataError, match="36 values per row in data set watch, the specification says 12"):
        train(parse_spec(SPEC.text.replace("iot = 36", "iot = 12")), rows, Variant(), [0])
    renamed = SPEC.text.replace('"iot"', '"wrist"').replace("iot = 36", "wrist = 36")
    with pytest.raises(DataError, match="sensor wrist: data set watch has iot"):
        train(parse_spec(renamed), rows, Variant(), [0])


def test_sensors_standardise_with_the_training_rows_only(bundle, run_path):
    from edge_agent.loading import load_session
    from export.data.rows import split_rows

    rows = load_data("watch")
    train_rows = rows.sensors["iot"][split_rows(rows, "row", 0).train]
    out = load_session(bundle, "iot").run([train_rows])
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-3)
