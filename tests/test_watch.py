"""A fleet that is watched: what is made of its messages, and what page, figures and terminal say of a real one."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from urllib.error import HTTPError

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from support import command
from terminals import drawn, terminal

from benchmarks.answers import KEPT_S, Tally
from benchmarks.exposition import exposition
from benchmarks.probe import AgentWire, Probe
from benchmarks.timeline import topology
from benchmarks.watch_view import changes, picture
from benchmarks.watched import Watched
from broker.beat import Beat, encode_beat
from broker.embedded import LocalBroker, running_broker
from broker.link import Link
from broker.presence import Sensed, Status, encode_status
from broker.topics import Topics
from edge_agent.answer import Answer
from edge_agent.metrics import Counters, Metrics, Source, Stages
from provisioning.local import LocalFleet

T = Topics("house")
ORDER = ("f1", "f2", "e1")


class Story:
    """A fleet that says what a test lets it say, and who watches it; time passes when told to."""

    def __init__(self, bundle):
        self.bundle, self.now_s = bundle, 100.0
        self.watched = Watched(bundle, "house", self.now_s)
        self.watched.on_broker(True, self.now_s)

    def born(self, *names, epoch=1, runs=None):
        for name in names:
            self.say(T.status(name), Status(online=True, epoch=epoch, bundle=runs or self.bundle.id.hex()))

    def died(self, name, reason="lost", epoch=1):
        self.say(T.status(name), Status(online=False, epoch=epoch, reason=reason))

    def beat(self, *names, epoch=1):
        for name in names:
            self.watched.on_message(T.beat(name), encode_beat(Beat(epoch, 1, 50)), self.now_s)

    def sink_sees(self, epoch=1, **states):
        view = {name: Sensed(state=state, epoch=1, since_ns=0, layer="beat") for name, state in states.items()}
        self.say(T.metrics("cloud"), metrics("cloud", epoch, view=view))

    def answer(self, *, complete=True, guess=False):
        words = {"step": 1, "label": 0, "name": "walking", "scores": (1.0,), "contributors": ("iot",)}
        rest = {"expected_accuracy": None, "bundle": self.bundle.id.hex(), "origin_ns": 0}
        self.say(T.result, Answer(**words, **rest, complete=complete, guess=guess))

    def say(self, topic, what):
        payload = encode_status(what) if isinstance(what, Status) else msgspec.json.encode(what)
        self.watched.on_message(topic, payload, self.now_s)

    def all_is_read(self, heard_s=None):
        self.watched.on_time(self.now_s if heard_s is None else heard_s, self.now_s)

    def now(self):
        return self.watched.snapshot(self.now_s)

    def states(self):
        return {each.name: each.state for each in self.now().nodes}

    def figures(self):
        return figures(exposition(self.now(), self.watched.metrics))


def metrics(node, epoch=1, *, view=None, rejected=None, sources=None, **counters):
    told = {"counters": Counters(**counters), "rejected": rejected or {}, "sources": sources or {}, "view": view or {}}
    return Metrics(node=node, epoch=epoch, now_ns=0, stages=Stages(), **told)


def figures(page):
    """What Prometheus' own parser reads: the value of each name with its labels."""
    found = {}
    for family in text_string_to_metric_families(page):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


@pytest.fixture
def story(bundle):
    story = Story(bundle)
    story.born(*bundle.manifest.nodes)
    story.beat(*bundle.manifest.nodes)
    return story


def test_a_fleet_that_is_born_is_alive_and_its_accuracy_that_of_the_bundle(story, bundle):
    assert story.states() == {"iot": None, "e1": "alive", "f2": "alive", "f1": "alive", "cloud": "alive"}
    now = story.now()
    assert (now.order, now.mask) == (ORDER, "111")
    assert now.expected_accuracy == bundle.manifest.accuracy.per_mask["111"]
    story.died("e1")
    assert story.now().mask == "110"
    assert story.now().expected_accuracy == bundle.manifest.accuracy.per_mask["110"]


def test_a_fleet_is_watched_without_what_draws_pages_and_a_page_says_what_to_install(fogguard, bundle, tmp_path):
    for name in ("jinja2", "matplotlib", "torch", "onnx"):  # fogguard[provisioning] brings none of them
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError(name={name!r})")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    words = ("watch", bundle.path, "--broker", "mqtt://127.0.0.1:9")
    watched = fogguard(*words, PYTHONPATH=path)
    assert (watched.returncode, "no broker answers at mqtt://127.0.0.1:9" in watched.stderr) == (2, True), (
        watched.stderr
    )
    served = fogguard(*words, "--http", "127.0.0.1:0", PYTHONPATH=path)
    assert served.stderr == "fogguard: jinja2 is not installed here: pip install 'fogguard[benchmarks]'\n"
    assert served.returncode == 2


@pytest.mark.parametrize("state", ["alive", "suspect", "slow", "hung", "dead"])
def test_how_the_sink_sees_a_node_is_how_it_is_shown(story, state):
    story.sink_sees(f1=state, f2="alive", e1="alive")
    assert story.states()["f1"] == state
    assert story.now().mask == ("111" if state == "alive" else "011")
    assert story.figures()["fogguard_node_up", ("node", "f1")] == (state == "alive")
    assert story.figures()["fogguard_node_state", ("node", "f1"), ("state", state)] == 1


def test_the_word_of_a_sink_that_is_gone_counts_no_longer(story):
    story.sink_sees(f1="dead", f2="alive", e1="alive")
    story.died("cloud")
    assert story.states() == {"iot": None, "e1": "alive", "f2": "alive", "f1": "alive", "cloud": "dead"}
    assert story.now().expected_accuracy is None
    story.born("cloud", epoch=2)  # and has not told yet how it sees them
    assert story.states()["f1"] == "alive"
    story.sink_sees(epoch=2, f1="dead", f2="alive", e1="alive")
    assert story.states()["f1"] == "dead"


def test_silence_counts_only_while_others_are_heard(story):
    story.now_s += 10
    story.all_is_read(heard_s=100.0)  # nobody was: the watcher or the broker was held up
    assert story.states()["cloud"] == "alive"
    story.beat("e1")
    story.all_is_read()
    assert story.states() == {"iot": None, "e1": "alive", "f2": "suspect", "f1": "suspect", "cloud": "suspect"}
    story.beat("cloud")
    assert story.states()["cloud"] == "alive"


def test_while_the_broker_is_away_nobody_is_blamed_and_nothing_is_claimed(story):
    story.watched.on_broker(False, story.now_s)
    story.now_s += 10
    story.all_is_read()
    now = story.now()
    assert (now.broker_up, now.broker_for_s, now.mask, now.expected_accuracy) == (False, 10, "111", None)
    told = story.figures()
    assert told[("fogguard_broker_up",)] == 0
    assert not [key for key in told if key[0] in ("fogguard_node_up", "fogguard_expected_accuracy_ratio")]
    story.born("f1", "f2", "cloud")  # what is retained comes before the broker counts as there
    assert story.now().mask == "111"
    story.watched.on_broker(True, story.now_s)
    assert story.states() == {"iot": None, "e1": "dead", "f2": "alive", "f1": "alive", "cloud": "alive"}


def test_a_sensor_is_shown_once_it_has_an_agent(story):
    story.born("iot")
    assert story.states()["iot"] == "alive"
    story.died("iot", reason="stopped")
    assert (story.states()["iot"], story.now().mask) == ("dead", "111")


def test_since_when_is_since_it_was_seen(story):
    story.now_s += 5
    story.died("f1")
    story.now_s += 3
    assert {each.name: each.for_s for each in story.now().nodes} == {"iot": 8, "e1": 8, "f2": 8, "f1": 3, "cloud": 8}


def test_each_change_is_one_line(story):
    before = story.now()
    assert list(changes(None, before)) == [
        "the broker is there",
        f"e1 is alive, f2 is alive, f1 is alive, cloud is alive; mask 111, predicted "
        f"{100 * before.expected_accuracy:.2f} %",
    ]
    assert list(changes(before, story.now())) == []
    story.died("f1")
    story.died("cloud")
    story.born("e1", epoch=2, runs="0" * 16)
    story.watched.on_broker(False, story.now_s)
    assert list(changes(before, story.now())) == [
        "the broker is away: waiting for it",
        "f1 is dead, cloud is dead; mask 011, predicted -",
        "e1 runs another bundle, 0000000000000000",
    ]


def test_a_fleet_of_which_nobody_is_heard_may_have_another_name(bundle):
    story = Story(bundle)
    first, second, *_ = changes(None, story.now())
    assert (first, second) == ("the broker is there", "nobody is heard: is that the fleet's name?")


@pytest.mark.parametrize("width", [44, 60, 80])
def test_a_narrow_terminal_shows_who_is_how_and_what_is_to_be_expected(story, bundle, width):
    story.sink_sees(f1="suspect", f2="alive", e1="alive")
    shown = drawn(picture(topology(bundle.manifest), story.now()), width)
    assert f"predicted {100 * story.now().expected_accuracy:.2f} %" in " ".join(shown.split())
    assert re.search(r"cloud +alive +\d\d:", shown)
    assert re.search(r"f1 +suspect +\d\d:", shown)


def test_a_fleet_of_another_bundle_is_none_to_watch_but_one_that_goes_over_is(story, bundle):
    other = Story(bundle)
    assert not other.watched.are_all_strangers  # nobody was heard
    other.born("f1", "cloud", runs="0" * 16)
    assert other.watched.are_all_strangers
    story.born("cloud", epoch=2, runs="0" * 16)
    assert not story.watched.are_all_strangers
    assert story.now().expected_accuracy is None  # who knows what that one predicts


def test_the_times_of_a_node_are_those_of_the_last_seconds(story):
    told = metrics("f1")
    for at_s in range(60):
        for _ in range(100):
            told.stages.infer.add(900_000 if at_s < 40 else 9_000_000)
        story.now_s = 100.0 + at_s
        story.say(T.metrics("f1"), told)
    (work,) = (each.work for each in story.now().nodes if each.name == "f1")
    assert work.stages_ms["infer"] == (16.384, 16.384)


def test_the_figures_are_what_the_nodes_told(story):
    sources = {"f2": Source(frames=7, late=2, cut=1)}
    told = metrics("f1", rejected={'odd"\\\n': 3}, sources=sources, complete=5, cut=1, dropped=2)
    for duration_ns in (0, 999, 1_500, 3_000_000, 90_000_000_000):
        told.stages.wait.add(duration_ns)
    story.say(T.metrics("f1"), told)
    (work,) = (each.work for each in story.now().nodes if each.name == "f1")
    assert (work.frames, work.dropped, work.rejected) == (7, 2, 3)
    found = story.figures()
    f1 = ("node", "f1")
    assert found["fogguard_info", ("bundle", story.bundle.id.hex()), ("fleet", "house")] == 1
    assert found["fogguard_frames_total", f1, ("source", "f2")] == 7
    assert found["fogguard_late_frames_total", f1, ("source", "f2")] == 2
    assert found["fogguard_missed_frames_total", f1, ("source", "f2")] == 1
    assert found["fogguard_rejected_total", f1, ("reason", 'odd"\\\n')] == 3
    assert [found["fogguard_steps_total", f1, ("outcome", each)] for each in ("complete", "cut", "dropped")] == [
        5,
        1,
        2,
    ]
    waits = {
        dict(key[1:])["le"]: count
        for key, count in found.items()
        if key[0] == "fogguard_stage_duration_seconds_bucket" and f1 in key and ("stage", "wait") in key
    }
    assert [waits[bound] for bound in ("1e-06", "2e-06", "0.002048", "0.004096", "4.194304", "+Inf")] == [
        2,
        3,
        3,
        4,
        4,
        5,
    ]
    assert found["fogguard_stage_duration_seconds_count", f1, ("stage", "wait")] == 5


def test_answers_are_counted_and_their_shares_are_of_the_last_whole_seconds(story):
    for _ in range(7):
        story.now_s += 1
        story.answer()
        story.answer(complete=False)
        story.answer(guess=True)
    answers = story.now().answers
    assert (answers.complete, answers.incomplete, answers.guesses) == (14, 7, 7)
    assert (answers.per_s, answers.complete_share, answers.guess_share) == (3, 2 / 3, 1 / 3)
    assert answers.course.answers == [0, 3, 3, 3, 3, 3, 3, 3]
    assert [(each.label, each.complete, each.guess) for each in answers.latest[-2:]] == [
        ("walking", False, False),
        ("walking", True, True),
    ]
    assert story.figures()["fogguard_answers_total", ("complete", "false")] == 7
    story.now_s += 60
    assert (story.now().answers.per_s, story.now().answers.complete_share) == (0, None)


@given(st.lists(st.tuples(st.floats(0, 200), st.booleans(), st.booleans()), max_size=20))
def test_the_course_holds_each_answer_of_the_last_minutes_in_its_second(steps):
    tally, now_s, came = Tally(50.0), 50.0, []
    for pause_s, complete, guess in steps:
        now_s += pause_s
        words = {"step": 1, "label": 0, "name": "x", "scores": (), "contributors": (), "bundle": "", "origin_ns": 0}
        tally.on_answer(Answer(**words, expected_accuracy=None, complete=complete, guess=guess), now_s)
        came.append((int(now_s - 50.0), complete, guess))
    found, last = tally.summary(), int(now_s - 50.0)
    seconds = range(max(0, last - KEPT_S + 1), last + 1)
    assert found.course.answers == [sum(at == second for at, _, _ in came) for second in seconds]
    assert found.course.guesses == [sum(at == second and guess for at, _, guess in came) for second in seconds]
    assert (found.complete, found.complete + found.incomplete) == (sum(each for _, each, _ in came), len(came))


_SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=8,
)
_HUGE = metrics("f1", rejected={"x": 1 << 48}, sources={"iot": Source(frames=1 << 48)}, late=1 << 48)
_HUGE.stages.wait.counts[3] = 1 << 48


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [T.status("f1"), T.beat("f1"), T.metrics("cloud"), T.metrics("f1"), T.result, "fog/house/x"]
            ),
            st.binary(max_size=40)
            | _SHAPES.map(json.dumps).map(str.encode)
            | st.sampled_from([_HUGE, Status(online=True, epoch=7)]).map(msgspec.json.encode)
            | st.integers(1, 4300).map(lambda n: msgspec.json.encode(_HUGE).replace(b"281474976710656", b"9" * n))
            | st.sampled_from([1, 1500]).map(lambda n: msgspec.json.encode(_HUGE).replace(b"[0,", b"[" + b"1," * n)),
        ),
        max_size=8,
    )
)
def test_whatever_is_said_to_a_watcher_the_page_and_the_figures_can_be_written(bundle, said):
    story = Story(bundle)
    for topic, payload in said:
        story.watched.on_message(topic, payload, story.now_s)
        story.now_s += 0.4
        story.all_is_read()
    assert json.loads(msgspec.json.encode(story.now()))["mask"] in bundle.manifest.accuracy.per_mask
    story.figures()


@contextlib.contextmanager
def foreign_fleet(bundle, folder, url):
    folder.mkdir()
    with LocalFleet(bundle, [url], "house", folder) as agents:
        agents.start(bundle.manifest.nodes)
        yield agents


class Page:
    """`fogguard watch --http`, and what its page is told."""

    def __init__(self, bundle, url, folder):
        words = ["watch", bundle.path, "--broker", url, "--fleet", "house", "--http", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [command("fogguard"), *map(str, words)], cwd=folder, stderr=subprocess.PIPE, text=True
        )
        self.url = self.process.stderr.readline().split()[2].rstrip(",")
        self.events = urllib.request.urlopen(self.url + "events", timeout=30)

    def read(self, path=""):
        with urllib.request.urlopen(self.url + path, timeout=30) as reply:
            return reply.read().decode()

    def until(self, holds):
        """The first snapshot from now on for which it holds, and the figures, which agree with it."""
        ends = time.monotonic() + 60
        for line in self.events:
            if line.startswith(b"data: ") and holds(now := json.loads(line[6:])):
                told = figures(self.read("metrics"))
                up = {dict(key[1:])["node"]: value for key, value in told.items() if key[0] == "fogguard_node_up"}
                known = {each["name"]: each["state"] == "alive" for each in now["nodes"] if each["state"]}
                is_same = told.get(("fogguard_expected_accuracy_ratio",)) == now["expected_accuracy"]
                if is_same and up == (known if now["broker_up"] else {}):
                    return now, told
            assert time.monotonic() < ends, line
        raise AssertionError("the stream has ended")

    def states(self, **expected):
        def holds(now):
            states = {each["name"]: each["state"] for each in now["nodes"]}
            return now["broker_up"] and all(states[name] == state for name, state in expected.items())

        return self.until(holds)

    def end(self):
        """Ctrl-C; what it said."""
        self.events.close()
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=20)[1]
        assert (self.process.returncode, "Traceback" in said) == (0, False), said
        return said


@contextlib.contextmanager
def watching(bundle, url, folder):
    page = Page(bundle, url, folder)
    try:
        yield page
    finally:
        page.events.close()
        page.process.kill()
        page.process.communicate()


def feed(bundle, url, steps):
    sensed = {name: np.zeros((1, *entry.shape), np.float32) for name, entry in bundle.manifest.sensors.items()}
    with Probe(url, "feeder", AgentWire("house", bundle, sensed)) as probe:
        probe.one_by_one(steps)


def test_page_and_figures_say_what_is_done_to_a_fleet(bundle, tmp_path):
    per_mask = bundle.manifest.accuracy.per_mask
    with (
        running_broker() as url,
        foreign_fleet(bundle, tmp_path / "fleet", url) as agents,
        watching(bundle, url, tmp_path) as page,
    ):
        page.states(e1="alive", f2="alive", f1="alive", cloud="alive")
        feed(bundle, url, 60)

        def is_told(now):
            work = {each["name"]: each["work"] for each in now["nodes"]}
            return work["e1"] and work["e1"]["frames"] == 60 and work["cloud"] and work["cloud"]["frames"] == 120

        now, told = page.until(is_told)
        assert (now["mask"], now["expected_accuracy"]) == ("111", per_mask["111"])
        assert (now["answers"]["complete"], now["answers"]["incomplete"]) == (60, 0)
        assert {each["label"] for each in now["answers"]["latest"]} <= set(bundle.manifest.labels)
        assert told["fogguard_answers_total", ("complete", "true")] == 60
        assert told["fogguard_frames_total", ("node", "cloud"), ("source", "f1")] == 60
        assert told["fogguard_stage_duration_seconds_bucket", ("le", "+Inf"), ("node", "e1"), ("stage", "infer")] == 60
        assert [told["fogguard_node_up", ("node", node)] for node in (*ORDER, "cloud")] == [1, 1, 1, 1]

        agents.kill(["f1"])
        now, told = page.states(f1="dead", f2="alive", e1="alive", cloud="alive")
        assert (now["mask"], now["expected_accuracy"]) == ("011", per_mask["011"])
        assert [told["fogguard_node_up", ("node", node)] for node in (*ORDER, "cloud")] == [0, 1, 1, 1]

        shown = page.read()
        assert all(f'data-node="{name}"' in shown for name in bundle.manifest.names)
        assert not [each for each in ("http", "src=", "url(", "@import") if each in shown]
        with pytest.raises(HTTPError, match="404"):
            page.read("nothing")
        assert "f1 is dead; mask 011" in page.end()


@pytest.mark.slow
def test_a_frozen_node_a_dead_sink_and_a_broker_that_goes_away_are_shown(bundle, tmp_path):
    with contextlib.ExitStack() as brokers:
        broker = brokers.enter_context(LocalBroker())
        with (
            foreign_fleet(bundle, tmp_path / "fleet", broker.url) as agents,
            watching(bundle, broker.url, tmp_path) as page,
        ):
            page.states(e1="alive", f2="alive", f1="alive", cloud="alive")
            for node in ("e1", "cloud"):  # as the sink sees it, and as nobody but the watcher can
                agents.freeze([node])
                page.states(**{node: "suspect", "f2": "alive"})
                agents.thaw([node])
                page.states(**{node: "alive"})
            agents.kill(["cloud"])
            now, told = page.states(cloud="dead", e1="alive", f1="alive")
            assert now["expected_accuracy"] is None
            agents.start(["cloud"])
            page.states(cloud="alive")

            brokers.close()
            now, told = page.until(lambda now: not now["broker_up"])
            assert told[("fogguard_broker_up",)] == 0
            brokers.enter_context(LocalBroker(broker.kind, port=broker.url.port))
            now, told = page.states(e1="alive", f2="alive", f1="alive", cloud="alive")
            assert told[("fogguard_broker_up",)] == 1
            feed(bundle, broker.url, 10)
            said = page.end()
            for line in ("e1 is suspect", "cloud is dead", "the broker is away: waiting for it", "the broker is there"):
                assert line in said


@pytest.mark.slow
def test_a_terminal_shows_the_fog_as_it_is(bundle, tmp_path):
    with (
        running_broker() as url,
        foreign_fleet(bundle, tmp_path / "fleet", url) as agents,
        terminal(("watch", bundle.path, "--broker", url, "--fleet", "house"), tmp_path) as shown,
    ):
        shown.wait_for(r"mask 111 of f1, f2, e1, predicted \d+\.\d\d %")
        shown.wait_for(r"● iot +──► ● e1 +──► ● f2 +──► ● f1 +──► ● cloud")
        feed(bundle, url, 20)
        shown.wait_for(r"cloud +alive +\d\d:\d\d:\d\d +40 ")
        agents.kill(["f1"])
        shown.wait_for("mask 011")
        shown.wait_for(r"f1 +dead +\d\d:")
        shown.process.send_signal(signal.SIGINT)
        assert shown.end() == 0
        assert "Traceback" not in shown.shown


def test_a_port_that_is_taken_and_a_fleet_of_another_bundle_are_refused(fogguard, bundle):
    with running_broker() as url:
        where = ("watch", bundle.path, "--broker", url, "--fleet", "house")
        done = fogguard(*where, "--http", f"127.0.0.1:{url.port}")
        assert done.returncode == 2
        assert f"--http 127.0.0.1:{url.port}: cannot be listened on (Address already in use)" in done.stderr
        with Link(url, "other") as link:
            link.connect()
            birth = Status(online=True, epoch=1, bundle="0" * 16)
            assert link.publish_confirmed(T.status("cloud"), encode_status(birth), retain=True, timeout_s=5)
            done = fogguard(*where)
        assert done.returncode == 2
        assert f"fleet house runs bundle {'0' * 16}, not {bundle.id.hex()}: watch it with that one" in done.stderr
