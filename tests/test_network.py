import copy

import numpy as np
import pytest
import torch

from export.data import load_data
from export.data.rows import DataError
from export.failures import masks
from export.network import Network, Node, Sensor
from export.spec import Dense, load_spec, parse_spec
from export.training import train

SPEC = load_spec("watch")


def network(skips=True, seed=0):
    torch.manual_seed(seed)
    return Network(SPEC, 7, {"iot": Sensor(torch.full((36,), 0.5), torch.full((36,), 2.0))}, skips=skips).eval()


def alive(mask):
    return torch.tensor([[bit == "1" for bit in mask]])


def by_hand(net, raw, mask):
    """The network under a mask as the paper writes it: the Add sums what is there, and a dead node is not called."""
    up = dict(zip(SPEC.order, mask, strict=True))
    values = {"iot": (raw - 0.5) / 2.0}
    for name, sources in net.inputs.items():
        if up.get(name, "1") == "0":
            continue
        present = [values[source] for source in sources if source in values]
        if present:
            width = net.nodes[name].expanded
            total = torch.zeros(len(raw), width)
            for x in present:
                total[:, : x.shape[1]] += x
            values[name] = net.nodes[name].units(total)
    return values.get("cloud")


@pytest.mark.parametrize("mask", masks(3))
@pytest.mark.parametrize("skips", [True, False])
def test_a_dead_node_is_absent_from_the_add(mask, skips):
    net, raw = network(skips), torch.randn(5, 36)
    logits, informed = net({"iot": raw}, alive(mask))
    expected = by_hand(net, raw, mask)
    assert bool(informed) == (expected is not None)
    if expected is not None:
        torch.testing.assert_close(logits, expected)


def test_each_row_may_have_its_own_failures():
    net, raw = network(), torch.randn(8, 36)
    mixed, informed = net({"iot": raw}, torch.cat([alive(mask) for mask in masks(3)]))
    for row, mask in enumerate(masks(3)):
        alone, there = net({"iot": raw[row : row + 1]}, alive(mask))
        assert informed[row] == there[0]
        if there[0]:
            torch.testing.assert_close(mixed[row : row + 1], alone)


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
    assert all(weight.grad.any() for weight in net.nodes["f2"].parameters() if weight.ndim == 2)


def test_shorter_vectors_are_padded_to_the_expansion_layer():
    node = Node([3, 5], Dense(layers=(2,)))
    short, long = torch.randn(1, 3), torch.randn(1, 5)
    padded = torch.cat([short, torch.zeros(1, 2)], dim=1)
    torch.testing.assert_close(node(short, long), node.units(padded + long))
    assert node.expanded == 5


def test_training_learns_and_is_the_same_for_a_seed():
    spec = parse_spec(SPEC.text.replace("epochs = 40", "epochs = 2"))
    rows = load_data("watch")
    epochs = []
    first = train(spec, rows, "failout", 3, lambda *told: epochs.append(told))
    again = train(spec, rows, "failout", 3)
    other = train(spec, rows, "failout", 4)
    weights = first.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in again.network.state_dict().items())
    assert not torch.equal(weights["nodes.e1.units.0.weight"], other.network.state_dict()["nodes.e1.units.0.weight"])
    assert [done for done, _, _ in epochs] == [1, 2]
    assert first.validation_accuracy == max(found for _, _, found in epochs) > 0.4
    assert sum(first.prior) == pytest.approx(1)


def test_rows_that_are_not_the_specification_s_are_refused():
    rows = load_data("watch")
    with pytest.raises(DataError, match="36 values per row in data set watch, the specification says 12"):
        train(parse_spec(SPEC.text.replace("iot = 36", "iot = 12")), rows, "vanilla", 0)
    renamed = SPEC.text.replace('"iot"', '"wrist"').replace("iot = 36", "wrist = 36")
    with pytest.raises(DataError, match="sensor wrist: data set watch has iot"):
        train(parse_spec(renamed), rows, "vanilla", 0)


def test_sensors_standardise_with_the_training_rows_only(bundle, run_path):
    from edge_agent.agent import load_session
    from export.data.rows import split_rows

    rows = load_data("watch")
    train_rows = rows.sensors["iot"][split_rows(rows, "row", 0).train]
    out = load_session(bundle, "iot").run([train_rows])
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-3)
