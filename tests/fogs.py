"""Random fogs for hypothesis, and the network of one computed as the paper writes it."""

import torch
from hypothesis import strategies as st

from export.network import Network
from export.node import Sensor
from export.skips import legal_skips, with_skips
from export.spec import parse_spec


@st.composite
def specs(draw, most_nodes=5):
    """A specification: a random graph of sensors and nodes with legal skips."""
    sensors = {f"s{number}": draw(st.integers(1, 4)) for number in range(draw(st.integers(1, 3)))}
    names = [f"n{number}" for number in range(draw(st.integers(1, most_nodes)))]
    sources = {}
    for position, name in enumerate(names):
        known = [*sensors, *names[:position]]
        sources[name] = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
    heard = {source for each in sources.values() for source in each}
    sources[names[-1]] += [name for name in names[:-1] if name not in heard]
    sources[names[0]] += [sensor for sensor in sensors if sensor not in heard]
    lines = ['name = "random"', "[data]", 'set = "none"', "[sensors]"]
    lines += [f"{name} = {width}" for name, width in sensors.items()]
    for name in names:
        layers = draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))
        simple = ", ".join(f'"{source}"' for source in sources[name])
        lines += [f"[nodes.{name}]", f"simple = [{simple}]", f'partition = {{ kind = "dense", layers = {layers} }}']
    reliability = ", ".join(f"{name} = {draw(st.floats(0, 1))}" for name in names[:-1])
    lines += ["[settings]", f"hazardous = {{ {reliability} }}"]
    spec = parse_spec("\n".join(lines))
    legal = legal_skips(spec)
    return with_skips(spec, draw(st.lists(st.sampled_from(legal), unique=True)) if legal else [])


def network_of(spec, variant, seeds=(0,), classes=3):
    """A network with random sensors, weights, maps and hyperconnection weights."""
    torch.manual_seed(1)
    sensors = {name: Sensor(torch.randn(width), torch.rand(width) + 0.5) for name, width in spec.sensors.items()}
    network = Network(spec, classes, sensors, variant, seeds).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "maps" in name or "join.weights" in name:
                weight.add_(torch.randn_like(weight) / 3)
    return network


def by_hand(network, raw, mask, seed=0):
    """The sink's logits under a mask, or None: what is dead is not called, and the Add sums what is there."""
    spec, variant = network.spec, network.variant
    up = {**dict(zip(spec.order, mask, strict=True)), spec.sink: "1"}
    values = {name: (x - network.sensors[name].mean) / network.sensors[name].scale for name, x in raw.items()}
    for name, sources in network.inputs.items():
        there = [source for source in sources if source in values]
        if up[name] == "0" or not there:
            continue
        node = network.nodes[name]
        width = max(network.widths[source] for source in sources)
        total = torch.zeros(len(next(iter(raw.values()))), width)
        for source in there:
            position = sources.index(source)
            if variant.mux and source in (skips := spec.skips_past(name)) and set(skips[source]) & set(there):
                continue
            x = arrived(network, name, position, values[source], width, seed)
            total = total + x
        if variant.normalise:
            total = total * len(sources) / len(there)
        for layer in node.units:
            total = total @ layer.weight[seed] + layer.bias[seed] if hasattr(layer, "weight") else total.clamp(min=0)
        values[name] = total
    return values.get(spec.sink)


def arrived(network, name, position, x, width, seed):
    """What the Add takes from one source: mapped or padded, and weighted."""
    join, sources = network.nodes[name].join, network.inputs[name]
    if str(position) in join.maps:
        x = x @ join.maps[str(position)].weight[seed]
    x = torch.cat([x, torch.zeros(len(x), width - x.shape[1])], dim=1)
    r = [network.spec.settings["hazardous"].get(each, 1.0) for each in sources]
    match network.variant.weights:
        case "reliability":
            return x * r[position]
        case "normalised":
            return x * (r[position] / sum(r) if sum(r) else 1 / len(r))
        case "learned":
            return x * join.weights[position][seed]
    return x
