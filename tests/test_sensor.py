"""Real sensors: agents that draw samples from a source of each kind, on a real broker."""

import json
import os
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager

import msgspec
import numpy as np
import pytest
from support import command

from broker.embedded import running_broker
from broker.frame import Frame, decode, encode
from broker.link import Link
from broker.topics import Topics
from edge_agent.answer import Answer
from edge_agent.bundle import load
from edge_agent.config import Config, Source
from edge_agent.loading import load_session
from edge_agent.metrics import Metrics
from edge_agent.pace import raiser, step_number
from edge_agent.selftest import self_test
from export.evaluation import Composed, labels, logits_by_mask
from export.heldout import held_out_for_bundle
from provisioning.asking import ask
from provisioning.local import LocalFleet

TOPICS = Topics("test")
WIDTH = 36


@pytest.fixture
def url():
    with running_broker("embedded") as url:
        yield url


@pytest.fixture
def rows():
    return np.random.default_rng(1).normal(size=(5, WIDTH)).astype(np.float32)


@contextmanager
def sensor(tmp_path, url, bundle, source, node="iot", **how):
    config = Config(
        node=node, bundle=str(bundle.path), broker=str(url), fleet="test", state=str(tmp_path / "state"), source=source
    )
    file = tmp_path / f"{node}.json"
    file.write_bytes(msgspec.json.encode(config))
    with (tmp_path / f"{node}.log").open("wb") as log:
        process = subprocess.Popen([command("fogguard-agent"), "--config", str(file)], stderr=log, **how)
    try:
        yield process
        assert process.poll() is None, (tmp_path / f"{node}.log").read_text()
    finally:
        process.kill()
        process.wait()


class Ear:
    """What a sensor says: the steps it raises, its vectors by step, and its metrics."""

    def __init__(self, url, bundle, sensor="iot"):
        self.steps, self.vectors, self.metrics, self.answers = [], {}, None, {}
        self._bundle, self._sensor = bundle, sensor
        topics = (TOPICS.step, TOPICS.tensor(sensor), TOPICS.metrics(sensor), TOPICS.result)
        self.link = Link(url, "ear", subscriptions=[(topic, 0) for topic in topics], on_message=self._on_message)

    def __enter__(self):
        self.link.connect()
        return self

    def __exit__(self, *error):
        self.link.__exit__(*error)

    def _on_message(self, topic, payload):
        if topic == TOPICS.metrics(self._sensor):
            self.metrics = msgspec.json.decode(payload, type=Metrics)
        elif topic == TOPICS.result:
            answer = msgspec.json.decode(payload, type=Answer)
            self.answers[answer.step] = answer
        else:
            frame = decode(payload, bundle=self._bundle.id)
            if topic == TOPICS.step:
                self.steps.append(frame.step)
            else:
                self.vectors[frame.step] = None if frame.is_null else frame.values.tolist()

    def until(self, condition, seconds=20):
        assert self.link.poll_until(condition, seconds), (self.steps, len(self.vectors), self.metrics)

    def trouble(self):
        return next(iter(self.metrics.sources.values())).rejected if self.metrics else {}


def through_the_graph(bundle, rows, name="iot"):
    return load_session(bundle, name).run([rows]).tolist()


def test_a_file_is_replayed_at_the_rate_given(tmp_path, url, bundle, rows):
    np.save(tmp_path / "x.npy", rows)
    source = Source(kind="replay", rate=50, options={"file": str(tmp_path / "x.npy")})
    with Ear(url, bundle) as ear, sensor(tmp_path, url, bundle, source):
        ear.until(lambda: len(ear.vectors) == 1)
        began = time.monotonic()
        ear.until(lambda: len(ear.vectors) >= 61)
        assert 0.9 < time.monotonic() - began < 5
        told = ask(url, "test", ["iot"], "trace", None)["iot"].trace
    assert [step.step for step in told[:50]] == ear.steps[:50]
    assert all(0 < step.inferred < step.published and not step.arrived for step in told[:50])
    expected = through_the_graph(bundle, rows)
    assert list(ear.vectors)[:50] == ear.steps[:50] == list(range(ear.steps[0], ear.steps[0] + 50))
    assert list(ear.vectors.values())[:50] == 10 * expected


def test_a_folder_of_images_is_shown(tmp_path, url, bundle):
    pixels = np.arange(2 * WIDTH, dtype=np.uint8).reshape(2, 3, 4, 3)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.ppm").write_bytes(b"P6 4 3 255\n" + pixels[0].tobytes())
    np.save(tmp_path / "images" / "b.npy", pixels[1])
    (tmp_path / "images" / "c.png").write_bytes(b"no image at all")
    source = Source(kind="folder", rate=50, options={"path": str(tmp_path / "images")})
    with Ear(url, bundle) as ear, sensor(tmp_path, url, bundle, source):
        ear.until(lambda: len(ear.vectors) >= 12)
        ear.until(lambda: ear.trouble().get("refused", 0) >= 4)
    shown = [vector for vector in ear.vectors.values() if vector]  # Pillow's import may take longer than a step
    assert shown[:6] == 3 * through_the_graph(bundle, pixels.reshape(2, WIDTH).astype(np.float32))
    assert None in ear.vectors.values()
    assert "c.png: " in (tmp_path / "iot.log").read_text()


def test_each_line_on_stdin_is_a_step_and_a_bad_one_is_none(tmp_path, url, bundle, rows):
    lines = [",".join(map(str, row.tolist())) for row in rows]
    with (
        Ear(url, bundle) as ear,
        sensor(tmp_path, url, bundle, Source(kind="csv"), stdin=subprocess.PIPE, text=True) as process,
    ):
        for line in [",".join("x" * WIDTH), *lines[:3], "1,2,3", lines[3].replace("-", "oops", 1), *lines[3:]]:
            process.stdin.write(line + "\n")
        process.stdin.flush()
        ear.until(lambda: len(ear.vectors) == 5)
        process.stdin.write(lines[4][:-1])  # its writer dies
        process.stdin.close()
        ear.until(lambda: ear.trouble().get("ended") == 1)
        assert ear.trouble() == {"refused": 2, "ended": 1}
        counters = ear.metrics.counters
        assert (counters.steps, counters.complete, counters.null) == (5, 5, 0)
        assert list(ear.vectors.values()) == through_the_graph(bundle, rows)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        process.poll = lambda: None
    log = (tmp_path / "iot.log").read_text()
    assert "stdin, line 5: 3 values (3,), the bundle wants 36 (36,)" in log
    assert "Traceback" not in log


def test_a_fifo_whose_writers_come_and_go_is_read_on(tmp_path, url, bundle, rows):
    os.mkfifo(tmp_path / "pipe")
    source = Source(kind="csv", options={"file": str(tmp_path / "pipe")})
    with Ear(url, bundle) as ear, sensor(tmp_path, url, bundle, source):
        for number, row in enumerate(rows[:3], 1):
            line = ",".join(map(str, row.tolist())) + "\n"
            subprocess.run(["sh", "-c", f"cat > {tmp_path}/pipe"], input=line, text=True, timeout=20)
            ear.until(lambda n=number: len(ear.vectors) == n)
    assert list(ear.vectors.values()) == through_the_graph(bundle, rows[:3])


@pytest.mark.parametrize("payload", ["text", "float32"])
def test_each_message_on_a_topic_is_a_step(tmp_path, url, bundle, rows, payload):
    source = Source(kind="mqtt", options={"topic": "plant/iot", "payload": payload})
    with Ear(url, bundle) as ear, sensor(tmp_path, url, bundle, source):
        ear.until(lambda: ear.metrics)
        for number, row in enumerate(rows, 1):
            ear.link.publish("plant/iot", b"nonsense")
            ear.link.poll_until(lambda: False, 0.1)
            said = json.dumps(row.tolist()).encode() if payload == "text" else row.tobytes()
            ear.link.publish("plant/iot", said)
            ear.until(lambda n=number: len(ear.vectors) == n)
        ear.until(lambda: ear.trouble() == {"refused": 5})
    assert list(ear.vectors.values()) == through_the_graph(bundle, rows)


PACKAGE = '''
"""A thermometer that is not there."""
import itertools, os, time

def thermometer(leaf, *, start=0.0):
    """Count up, as the real one would warm up."""
    return ([start + number] * leaf.shape[0] for number in itertools.count())

class Moody:
    def __init__(self, leaf):
        self.count = 0
    def __iter__(self):
        return self
    def __next__(self):
        self.count += 1
        if self.count % 5 == 1:
            return [float(self.count)] * 36
        if self.count % 5 == 2:
            return None
        if self.count % 5 == 3:
            return [1.0] * 35
        if self.count % 5 == 4:
            time.sleep(0.2)
            return [2.0] * 36
        raise OSError("the bus is stuck")

def bus(leaf, *, topic):
    """Decode what another program says about itself."""
    import json
    for message in leaf.messages:
        yield json.loads(message)["values"]

def exits(leaf):
    raise SystemExit("not today")

def hangs(leaf):
    time.sleep(3600)

not_callable = 3
'''


@pytest.fixture
def installed(tmp_path):
    """A small package, as pip lays it out, in a folder of its own; the environment in which Python finds it."""
    site = tmp_path / "site"
    (site / "shed-1.0.dist-info").mkdir(parents=True)
    (site / "shed.py").write_text(PACKAGE)
    (site / "shed-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: shed\nVersion: 1.0\n")
    names = ("moody:Moody", "broken:nothing", "thermometer", "bus", "exits", "hangs", "not_callable")
    entries = "".join(f"{name.split(':')[0]} = shed:{name.split(':')[-1]}\n" for name in names)
    (site / "shed-1.0.dist-info" / "entry_points.txt").write_text(f"[fogguard.sources]\n{entries}")
    return {"env": {**os.environ, "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}}


def test_an_installed_entry_point_is_a_source_like_any_other(tmp_path, url, bundle, installed):
    source = Source(kind="thermometer", rate=50, options={"start": 7.5})
    with Ear(url, bundle) as ear, sensor(tmp_path, url, bundle, source, **installed):
        ear.until(lambda: len(ear.vectors) >= 3)
    raw = np.array([[7.5 + number] * WIDTH for number in range(3)], np.float32)
    assert list(ear.vectors.values())[:3] == through_the_graph(bundle, raw)


def test_an_entry_point_with_a_topic_gets_what_comes_there(tmp_path, url, bundle, rows, installed):
    with (
        Ear(url, bundle) as ear,
        sensor(tmp_path, url, bundle, Source(kind="bus", rate=0, options={"topic": "zigbee/x"}), **installed),
    ):
        ear.until(lambda: ear.metrics)
        ear.link.publish("zigbee/x", json.dumps({"battery": 80, "values": rows[0].tolist()}).encode())
        ear.until(lambda: len(ear.vectors) == 1)
    assert list(ear.vectors.values()) == through_the_graph(bundle, rows[:1])


def test_nothing_too_little_too_late_and_a_failure_are_null_vectors_and_counted(tmp_path, url, bundle, installed):
    with Ear(url, bundle) as ear, sensor(tmp_path, url, bundle, Source(kind="moody", rate=10), **installed):
        ear.until(lambda: ear.trouble().get("failed", 0) >= 2, 30)
        ear.link.poll_until(lambda: False, 1.2)
        tally, counters = ear.metrics.sources["raw"], ear.metrics.counters
    assert tally.rejected["refused"] >= 2
    assert tally.null >= 2
    assert counters.cut >= 2
    assert tally.late + counters.complete == tally.frames
    assert counters.steps == counters.complete + counters.null
    said = list(ear.vectors.values())
    assert said[:3] == [*through_the_graph(bundle, np.ones((1, WIDTH), np.float32)), None, None]
    assert [step in ear.vectors for step in ear.steps] == [True] * len(ear.steps)
    assert len(ear.steps) >= 20, "a source that rests after a failure leaves its steps to the other sensors"
    log = (tmp_path / "iot.log").read_text()
    assert "source of iot failed: the bus is stuck" in log
    assert "source of iot refused: sample 3: 35 values (35,), the bundle wants 36 (36,)" in log


@pytest.mark.parametrize(("kind", "counted"), [("exits", "failed"), ("hangs", None)])
def test_a_source_that_exits_or_never_returns_leaves_its_agent_alive(tmp_path, url, bundle, installed, kind, counted):
    with Ear(url, bundle) as ear, sensor(tmp_path, url, bundle, Source(kind=kind, rate=20), **installed) as process:
        ear.until(lambda: len(ear.vectors) >= 10)
        ear.until(lambda: ear.metrics and ear.metrics.counters.null >= 10)
        assert set(ear.vectors.values()) == {None}
        assert not counted or ear.trouble()[counted] >= 1
        process.terminate()
        assert process.wait(5) == 0
        process.poll = lambda: None


@pytest.mark.parametrize(
    ("node", "source", "sentence"),
    [
        ("iot", None, "iot is a sensor: say where its samples come from, `source` in its configuration"),
        ("e1", Source(kind="csv"), "e1 is a node, and `source` is for a sensor (iot): run another agent for that one"),
        ("iot", Source(kind="oracle"), "no source of kind 'oracle' here: there are broken, bus, csv"),
        ("iot", Source(kind="broken"), "source kind 'broken': shed:nothing cannot be imported (AttributeError"),
        ("iot", Source(kind="not_callable"), "source kind 'not_callable': shed:not_callable is not callable"),
        ("iot", Source(kind="thermometer", options={"stop": 1}), "argument 'stop'; its options are start"),
        ("iot", Source(kind="csv", rate=-1), "rate -1.0 does not lie between 0 and 1000 steps a second"),
        ("iot", Source(kind="mqtt", options={"topic": "a/#"}), "topic 'a/#': write one topic without spaces"),
        ("iot", Source(kind="mqtt", options={"topic": "fog/test/e1/tensor"}), "does not begin with '$' or 'fog/'"),
        ("iot", Source(kind="mqtt", options={"topic": "a\nuser x"}), "write one topic without spaces"),
    ],
)
@pytest.mark.parametrize("how", [[], ["--self-test"]])
def test_a_source_that_cannot_be_is_one_sentence(tmp_path, bundle, installed, node, source, sentence, how):
    place = str(bundle.path)
    config = Config(node=node, bundle=place, broker="mqtt://127.0.0.1:9", fleet="test", state="s", source=source)
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(config))
    done = subprocess.run(
        [command("fogguard-agent"), "--config", str(tmp_path / "a.json"), *how],
        capture_output=True, text=True, timeout=30, **installed,
    )  # fmt: skip
    assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_sensor_tests_itself(tmp_path, bundle):
    source = Source(kind="csv")
    config = Config(node="iot", bundle=str(bundle.path), broker="mqtt://x", fleet="t", state="s", source=source)
    assert "iot: its graph runs, and there is a source of kind csv" in self_test(config)


def test_a_sensor_answers_the_steps_of_others_and_leaves_alone_what_is_fed_by_hand(tmp_path, url, bundle, rows):
    """Its own source is slow: only the steps of a sensor that stands before it, here by a number of its own, count."""
    np.save(tmp_path / "x.npy", rows)
    source = Source(kind="replay", rate=0.01, options={"file": str(tmp_path / "x.npy")})
    with Ear(url, bundle) as ear, sensor(tmp_path, url, bundle, source):
        ear.until(lambda: len(ear.vectors) == 1)
        ours, fed = step_number(9, 3, 1), 1_764_000_000 << 32 | 7
        for step in (fed, ours):
            ear.link.publish(TOPICS.step, encode(Frame(step, 9, bundle.id, None, 0, 1234)))
        ear.until(lambda: ours in ear.vectors)
        ear.link.poll_until(lambda: False, 0.3)
    assert fed not in ear.vectors
    assert [raiser(step) for step in ear.vectors] == [0, 3]
    assert list(ear.vectors.values()) == through_the_graph(bundle, rows[:2])


def test_a_fleet_that_a_sensor_feeds_answers_as_predicted_also_when_its_first_node_is_killed(tmp_path, url, bundle):
    """The sensor is an agent of its own: the skip past the dead node carries what it says."""
    held_out = held_out_for_bundle(bundle).drawn(40)
    np.save(tmp_path / "x.npy", held_out.raw["iot"])
    masks = {"111": "111", "110": "e1"}
    answers = logits_by_mask(Composed(bundle), held_out.raw, list(masks))
    source = Source(kind="replay", rate=50, options={"file": str(tmp_path / "x.npy")})
    (tmp_path / "fleet").mkdir()
    with ExitStack() as stack:
        ear = stack.enter_context(Ear(url, bundle))
        fleet = stack.enter_context(LocalFleet(bundle, [url], "test", tmp_path / "fleet"))
        fleet.start(bundle.manifest.nodes)
        stack.enter_context(sensor(tmp_path, url, bundle, source))
        for mask in masks:
            predicted = labels(answers[mask], 40)
            up = {"iot", "cloud", *(n for n, bit in zip(bundle.manifest.order, mask, strict=True) if bit == "1")}
            if mask == "110":
                fleet.kill(["e1"])
            whole = lambda: [a for a in ear.answers.values() if a.complete and set(a.contributors) == up]  # noqa: B023, E731
            ear.until(lambda: len(whole()) >= 60, 40)  # noqa: B023
            first = ear.steps[0]
            wrong = [a for a in whole() if a.label != predicted[(a.step - first) % 40]]
            assert wrong == []


PAIR = """
name = "pair"
data = { set = "mine", split = "row" }
sensors = { door = 1, window = 2 }

[nodes.a]
simple = ["door", "window"]
partition = { kind = "dense", layers = [8] }

[nodes.cloud]
simple = ["a"]
partition = { kind = "dense", layers = [8] }

[settings]
no_failure = { a = 1.0 }

[training]
learning_rate = 0.01
batch = 32
epochs = 3
"""


@pytest.fixture
def pair(tmp_path, fogguard):
    """A bundle whose first node hears two sensors."""
    (tmp_path / "csv").mkdir()
    lines = [f"{'high' if number % 2 else 'low'},{number % 2 + number / 1000},{number},1" for number in range(200)]
    (tmp_path / "csv" / "a.csv").write_text("\n".join(["level,x,y,z", *lines]))
    (tmp_path / "fog.toml").write_text(PAIR)
    importing = "data import mine csv --label level --sensor door=x --sensor window=y,z"
    for words in (importing, "train fog.toml --out run", "export run --out bundle"):
        done = fogguard(*words.split(), FOGGUARD_DATA=str(tmp_path / "data"))
        assert done.returncode == 0, done.stderr
    return load(tmp_path / "bundle")


@pytest.mark.slow
def test_sensors_share_their_steps_and_the_next_one_raises_them_when_the_first_is_gone(tmp_path, url, pair):
    for name, width in (("door", 1), ("window", 2)):
        np.save(tmp_path / f"{name}.npy", np.ones((3, width), np.float32))

    def source(name):
        return Source(kind="replay", rate=10, options={"file": str(tmp_path / f"{name}.npy")})

    (tmp_path / "fleet").mkdir()
    with ExitStack() as stack:
        ear = stack.enter_context(Ear(url, pair, "window"))
        fleet = stack.enter_context(LocalFleet(pair, [url], "test", tmp_path / "fleet"))
        fleet.start(pair.manifest.nodes)
        stack.enter_context(sensor(tmp_path, url, pair, source("window"), "window"))

        def answered_by(raised_by, *sensors):
            return lambda: sum(
                raiser(step) == raised_by and set(answer.contributors) == {*sensors, "a", "cloud"}
                for step, answer in [*ear.answers.items()][-20:]
            ) >= 10  # fmt: skip

        ear.until(answered_by(1, "window"), 40)  # the first sensor is not there yet
        with sensor(tmp_path, url, pair, source("door"), "door"):
            ear.until(answered_by(0, "door", "window"))
            assert all(answer.complete for answer in [*ear.answers.values()][-5:])
        ear.answers.clear()
        ear.until(answered_by(1, "window"))
        assert all(answer.complete for answer in [*ear.answers.values()][-5:])  # nobody waits for a sensor that is gone
        with sensor(tmp_path, url, pair, source("door"), "door"):
            ear.until(answered_by(0, "door", "window"))
