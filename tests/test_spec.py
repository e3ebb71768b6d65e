import pytest

from broker.errors import FogError
from export.spec import built_in_specs, load_spec, parse_spec

HEALTH = """
name = "health"
data = { set = "mhealth" }
sensors = { iot = 12 }
[nodes.f1]
simple = ["f2"]
skip = ["e1"]
partition = { kind = "dense", layers = [250, 250, 250] }
[nodes.f2]
simple = ["e1"]
skip = ["iot"]
partition = { kind = "dense", layers = [250, 250] }
[nodes.e1]
simple = ["iot"]
partition = { kind = "dense", layers = [250] }
[nodes.cloud]
simple = ["f1"]
skip = ["f2"]
partition = { kind = "dense", layers = [250, 250, 250, 250] }
[settings]
poor = { f1 = 0.98, f2 = 0.96, e1 = 0.92 }
"""


def test_health_is_what_the_paper_draws():
    spec = parse_spec(HEALTH)
    assert (spec.order, spec.sink) == (("f1", "f2", "e1"), "cloud")
    assert spec.inputs() == {"e1": ("iot",), "f2": ("e1", "iot"), "f1": ("f2", "e1"), "cloud": ("f1", "f2")}
    assert spec.inputs(skips=False) == {"e1": ("iot",), "f2": ("e1",), "f1": ("f2",), "cloud": ("f1",)}
    assert {(h.source, h.target) for h in spec.hyperconnections if h.kind == "skip"} == {
        ("iot", "f2"), ("e1", "f1"), ("f2", "cloud"),
    }  # fmt: skip


def test_camera_with_cameras_added_at_one_node_is_a_specification_too():
    cameras = "\n".join(f"c{n} = 3072" for n in range(1, 7))
    joined = {
        "f1": (["f2"], ["f3", "f4"]), "f2": (["f3", "f4"], ["e1", "e2", "e3", "e4"]), "f3": (["e1"], []),
        "f4": (["e2", "e3", "e4"], []), "e1": (["c1", "c2"], []), "e2": (["c3"], []), "e3": (["c4", "c5"], []),
        "e4": (["c6"], []), "cloud": (["f1"], ["f2"]),
    }  # fmt: skip
    nodes = "\n".join(
        f'[nodes.{name}]\nsimple = {simple}\nskip = {skip}\npartition = {{ kind = "dense", layers = [32] }}'
        for name, (simple, skip) in joined.items()
    )
    spec = parse_spec(f'name = "camera"\ndata = {{ set = "multicamera" }}\n[sensors]\n{cameras}\n{nodes}')
    assert spec.order == ("f1", "f2", "f3", "f4", "e1", "e2", "e3", "e4")
    assert sum(h.kind == "skip" for h in spec.hyperconnections) == 7


def test_a_deadline_leaves_time_for_every_cut_off_upstream():
    assert parse_spec(HEALTH).deadlines_ms() == {"e1": 100, "f2": 200, "f1": 300, "cloud": 400}
    fixed = HEALTH.replace("[nodes.f2]", "[nodes.f2]\ndeadline_ms = 20")
    assert parse_spec(fixed).deadlines_ms() == {"e1": 100, "f2": 20, "f1": 200, "cloud": 300}


@pytest.mark.parametrize("name", built_in_specs())
def test_the_built_in_specifications_are_right(name):
    assert set(load_spec(name).settings) == {"no_failure", "normal", "poor", "hazardous"}


def changed(old, new):
    assert old in HEALTH
    return HEALTH.replace(old, new)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = ", "not TOML"),
        ("", "missing required field `name`"),
        (changed('name = "health"', 'name = "he/alth"'), "name 'he/alth': use letters"),
        (changed('name = "health"', "name = 7"), r"Expected `str`, got `int` - at `\$.name`"),
        (changed("sensors = { iot = 12 }", "sensors = {}"), "no sensors"),
        (changed("sensors = { iot = 12 }", "sensors = { iot = 0 }"), "sensor iot: 0 values"),
        (changed("sensors = { iot = 12 }", "sensors = { iot = 12, spare = 3 }"), "sensor spare is unreachable"),
        (changed("sensors = { iot = 12 }", "sensors = { iot = 12, e1 = 3 }"), "e1 is both a sensor and a node"),
        (changed('skip = ["e1"]', 'skip = ["e7"]'), "node f1: unknown source 'e7': there are iot, f1"),
        (changed('skip = ["e1"]', 'skip = ["f2"]'), "node f1: f2 is named twice"),
        (changed('simple = ["iot"]', 'simple = ["f1"]'), "cycle: f1 → f2 → e1 → f1"),
        (changed('simple = ["iot"]', 'simple = ["e1"]'), "cycle: e1 → e1"),
        (changed('simple = ["iot"]\n', ""), "node e1: no simple hyperconnection"),
        (changed('simple = ["f1"]\nskip = ["f2"]', 'simple = ["f2"]'), "no single sink: f1 and cloud"),
        (changed('simple = ["f1"]\nskip = ["f2"]', 'simple = ["f2"]\nskip = ["f1"]'), "node f1 is unreachable"),
        (changed('simple = ["e1"]\nskip = ["iot"]', 'simple = ["iot"]\nskip = ["e1"]'), "node e1 is unreachable"),
        (changed("layers = [250] }", "layers = [] }"), "node e1: layers"),
        (changed("layers = [250] }", "layers = [0] }"), "node e1: layers"),
        (changed('kind = "dense", layers = [250] }', 'kind = "magic" }'), "Invalid value 'magic'"),
        (changed("e1 = 0.92", "e1 = 1.2"), "e1 = 1.2 is no probability"),
        (changed(", e1 = 0.92", ""), "setting poor: no reliability for e1"),
        (changed("e1 = 0.92", "e1 = 0.92, cloud = 0.5"), "cloud is no node that can fail"),
        (HEALTH + "\n[extra]\n", "unknown field `extra`"),
        ("deadline_ms = -1\n" + HEALTH, "must be positive"),
        ("deadline_ms = inf\n" + HEALTH, "must be positive, and no wild number"),
        (changed("[nodes.f2]", "[nodes.f2]\ndeadline_ms = nan"), "node f2: deadline_ms nan must be positive"),
        (HEALTH + "[training]\nlearning_rate = nan", "must be positive, and no wild number"),
        (HEALTH + "[training]\nbatch = 99999999999999999999", "must be positive, and no wild number"),
        (changed('set = "mhealth"', 'set = "mhealth", split_seed = -1'), "split_seed -1: give 0 or more"),
        (HEALTH.replace("e1", "whole"), "'whole' is what a bundle calls the graph of all nodes"),
    ],
)
def test_a_wrong_specification_is_one_sentence(text, sentence):
    with pytest.raises(FogError, match=sentence) as wrong:
        parse_spec(text, "fog.toml")
    assert str(wrong.value).startswith("fog.toml: ")


def test_a_skip_may_pass_several_nodes():
    assert "iot" in parse_spec(changed('skip = ["f2"]', 'skip = ["f2", "iot"]')).inputs()["cloud"]


def test_a_skip_that_skips_nothing_is_refused():
    beside = '[nodes.g]\nsimple = ["iot"]\nskip = ["f1"]\npartition = { kind = "dense", layers = [9] }\n'
    text = changed('[nodes.cloud]\nsimple = ["f1"]', beside + '[nodes.cloud]\nsimple = ["f1", "g"]')
    with pytest.raises(FogError, match="skip f1 → g skips nothing"):
        parse_spec(text)


def test_an_unreadable_file_and_an_unknown_name_are_one_sentence(tmp_path):
    with pytest.raises(FogError, match=r"no-such\.toml: cannot be read"):
        load_spec(str(tmp_path / "no-such.toml"))
    with pytest.raises(FogError, match="no built-in specification: those are camera, health, watch"):
        load_spec("helth")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FogError, match="not a text file"):
        load_spec(str(tmp_path / "binary.toml"))
