import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from broker.beat import MAX_INTERVAL_MS
from broker.epoch import MAX_EPOCH, following, is_later
from broker.presence import Presence, Status, StatusError, decode_status, encode_status
from edge_agent.epoch import is_superseded


def born(epoch):
    return Status(online=True, epoch=epoch)


def lost(epoch):
    return Status(online=False, epoch=epoch, reason="lost")


def test_a_node_never_heard_of_is_dead():
    assert not Presence(["f1"]).is_alive("f1")


def test_birth_and_will_follow_each_other():
    presence = Presence(["f1"])
    assert presence.on_status("f1", born(1), 10)
    assert presence.is_alive("f1")
    assert presence.on_status("f1", lost(1), 20)
    assert presence.alive() == frozenset()
    assert (presence.view["f1"].since_ns, presence.view["f1"].layer) == (20, "will")


def test_a_late_will_does_not_bury_a_reborn_node():
    presence = Presence(["f1"])
    presence.on_status("f1", born(2), 10)
    assert not presence.on_status("f1", lost(1), 20)
    assert presence.is_alive("f1")


def test_frames_still_on_the_wire_do_not_revive_the_dead():
    presence = Presence(["f1"])
    presence.on_status("f1", born(1), 10)
    presence.on_status("f1", lost(1), 20)
    assert not presence.on_sign("f1", 1, 30, "frame")
    assert not presence.on_status("f1", born(1), 40)
    assert not presence.is_alive("f1")
    assert presence.on_sign("f1", 2, 50, "frame")
    assert presence.is_alive("f1")


def test_a_clean_stop_is_a_farewell():
    presence = Presence(["f1"])
    presence.on_status("f1", born(1), 10)
    presence.on_status("f1", Status(online=False, epoch=1, reason="stopped"), 20)
    assert presence.view["f1"].layer == "farewell"


MS = 1_000_000


def beating(until_ms, nodes=("f1",)):
    """Nodes that were born and beat every 50 ms."""
    presence = Presence(nodes)
    for node in nodes:
        presence.on_status(node, born(1), 0)
        for now_ms in range(0, until_ms + 1, 50):
            presence.on_sign(node, 1, now_ms * MS, "beat", 50 * MS)
    return presence


def seen(presence, node="f1"):
    sensed = presence.view[node]
    return sensed.state, sensed.layer, sensed.since_ns // MS


def test_a_silent_node_is_suspected_and_its_next_sign_revives_it():
    for layer in ("beat", "frame"):
        presence = beating(1000)
        assert presence.judge(1150 * MS, 1150 * MS) == []
        assert presence.judge(1160 * MS, 1170 * MS) == ["f1"]
        assert presence.judge(1300 * MS, 1300 * MS) == []
        assert seen(presence) == ("suspect", "beat", 1170)
        assert not presence.is_alive("f1")
        assert presence.on_sign("f1", 1, 1400 * MS, layer)
        assert seen(presence) == ("alive", layer, 1400)


def test_silence_counts_only_as_far_as_it_must_have_been_heard():
    """An observer that was held up for seconds has not read yet what came meanwhile."""
    presence = beating(1000)
    assert presence.judge(1100 * MS, 9000 * MS) == []


def test_a_suspect_is_dead_when_its_will_comes_and_then_no_beat_revives_it():
    presence = beating(1000)
    presence.judge(2000 * MS, 2000 * MS)
    assert presence.on_status("f1", lost(1), 3000 * MS)
    assert seen(presence) == ("dead", "will", 3000)
    assert not presence.on_sign("f1", 1, 3001 * MS, "beat")
    assert not presence.is_alive("f1")


def test_the_watchdog_explains_a_death():
    presence = beating(1000)
    presence.on_status("f1", lost(1), 2000 * MS)
    assert presence.on_status("f1", Status(online=False, epoch=1, reason="hung"), 2500 * MS)
    assert seen(presence) == ("hung", "watchdog", 2500)
    assert not presence.on_status("f1", lost(1), 2600 * MS)
    assert not presence.on_sign("f1", 1, 2600 * MS, "frame")
    assert presence.on_status("f1", born(2), 3000 * MS)
    assert seen(presence) == ("alive", "birth", 3000)


def test_a_birth_that_the_broker_repeats_is_no_sign_of_life():
    presence = beating(1000)
    presence.judge(2000 * MS, 2000 * MS)
    assert not presence.on_status("f1", born(1), 2100 * MS)
    assert seen(presence)[0] == "suspect"


def test_a_node_that_was_born_and_never_beats_is_suspected():
    presence = Presence(["f1"])
    presence.on_status("f1", born(1), 1000 * MS)
    assert presence.judge(1151 * MS, 1151 * MS) == ["f1"]


def test_nobody_is_to_blame_for_the_observer_s_own_outage():
    presence = beating(1000)
    presence.restart(60_000 * MS)
    assert presence.judge(60_100 * MS, 60_100 * MS) == []
    assert presence.judge(60_200 * MS, 60_200 * MS) == ["f1"]


def test_three_deadlines_in_a_row_make_a_node_slow_until_it_delivers_in_time():
    presence = beating(1000)
    for opened_ms in (1000, 1001, 1002, 1200):  # three steps under way at once are one hold-up
        assert not presence.on_missed_deadline("f1", opened_ms * MS, (opened_ms + 100) * MS)
    assert presence.on_missed_deadline("f1", 1400 * MS, 1500 * MS)
    assert seen(presence) == ("slow", "deadline", 1500)
    assert not presence.is_alive("f1")
    assert not presence.on_sign("f1", 1, 1510 * MS, "beat", 50 * MS)
    assert presence.on_delivery("f1", 1520 * MS)
    assert seen(presence) == ("alive", "frame", 1520)


def test_a_delivery_in_time_wipes_the_slate():
    presence = beating(1000)
    for opened_ms in range(1000, 5000, 400):
        assert not presence.on_missed_deadline("f1", opened_ms * MS, (opened_ms + 100) * MS)
        presence.on_delivery("f1", (opened_ms + 200) * MS)


def test_a_slow_node_that_falls_silent_is_suspected():
    presence = beating(1000)
    for opened_ms in (1000, 1200, 1400):
        presence.on_missed_deadline("f1", opened_ms * MS, (opened_ms + 100) * MS)
    assert presence.judge(1600 * MS, 1600 * MS) == ["f1"]


def test_a_forged_sign_of_a_far_epoch_bars_neither_the_node_s_own_signs_nor_its_will_nor_its_next_birth():
    for forged in (2, 1 << 40, MAX_EPOCH // 2, MAX_EPOCH):
        presence = beating(1000)
        presence.on_sign("f1", forged, 1010 * MS, "beat", 60_000 * MS)
        presence.on_sign("f1", 1, 1050 * MS, "beat", 50 * MS)
        assert (presence.view["f1"].epoch, presence.is_alive("f1")) == (1, True)
        assert presence.judge(1300 * MS, 1300 * MS) == ["f1"]
        assert presence.on_status("f1", lost(1), 1400 * MS)
        assert seen(presence) == ("dead", "will", 1400)
        presence.on_sign("f1", forged, 1500 * MS, "frame")
        presence.on_status("f1", born(2), 1600 * MS)
        assert (presence.view["f1"].epoch, presence.is_alive("f1")) == (2, True)


def test_a_birth_may_be_overtaken_by_its_beats_and_a_will_by_the_next_life():
    presence = beating(1000)
    assert presence.on_sign("f1", 2, 1010 * MS, "beat", 50 * MS)
    assert not presence.on_status("f1", lost(1), 1020 * MS)
    assert not presence.on_status("f1", born(2), 1030 * MS)
    assert seen(presence) == ("alive", "beat", 1010)
    assert not presence.on_sign("f1", 1, 1040 * MS, "frame")
    assert presence.on_status("f1", lost(2), 1050 * MS)


@given(st.integers(0, MAX_EPOCH), st.integers(0, MAX_EPOCH))
def test_of_two_epochs_one_is_later_and_there_is_always_a_next(one, other):
    assert is_later(one, other) + is_later(other, one) == (one != other)
    assert is_later(following(one), one)
    assert not is_later(one, following(one))
    assert 0 <= following(one) <= MAX_EPOCH


epochs = st.one_of(st.integers(0, 5), st.integers(MAX_EPOCH - 3, MAX_EPOCH), st.integers(0, MAX_EPOCH))


class LivesAndLies(RuleBasedStateMachine):
    """A node that lives and dies, a forger who may say everything in its name, and two observers.

    One was there from the start, the other begins in the middle with what the broker keeps. The node hears its own
    status topic, and does as agents do.
    """

    def __init__(self):
        super().__init__()
        self.now = 0
        self.epoch = 0
        self.lives = False
        self.kept = None
        self.observers = [Presence(["f1"])]

    def each(self, tell):
        self.now += 1
        for observer in self.observers:
            tell(observer)

    def say(self, status):
        self.kept = status
        self.each(lambda observer: observer.on_status("f1", status, self.now))

    @rule()
    def be_born(self):
        self.epoch = following(self.epoch)
        if self.kept is not None and is_superseded(self.epoch, self.kept):
            self.epoch = following(self.kept.epoch)
        self.lives = True
        self.say(born(self.epoch))

    @precondition(lambda self: self.lives)
    @rule()
    def die(self):
        self.lives = False
        self.say(lost(self.epoch))

    @rule(epoch=epochs, layer=st.sampled_from(["beat", "frame"]), interval_ms=st.integers(1, MAX_INTERVAL_MS))
    def forge_a_sign(self, epoch, layer, interval_ms):
        self.each(lambda observer: observer.on_sign("f1", epoch, self.now, layer, interval_ms * MS))

    @rule(epoch=epochs, online=st.booleans())
    def forge_a_status(self, epoch, online):
        self.say(born(epoch) if online else lost(epoch))
        if self.lives and is_superseded(self.epoch, self.kept):
            self.be_born()
        elif self.lives and epoch != self.epoch:
            self.say(born(self.epoch))

    @rule()
    def begin_to_observe(self):
        if len(self.observers) < 3:
            self.observers.append(Presence(["f1"]))
            if self.kept is not None:
                self.observers[-1].on_status("f1", self.kept, self.now)

    @rule()
    def beat_and_be_seen(self):
        """When the forger has had his say, a beat is enough for everyone to see the node alive, in its own epoch.

        But if he has buried its next epoch before that began: then in the one after this.
        """
        if self.lives:
            self.beat()
            if not all(observer.is_alive("f1") for observer in self.observers):
                self.die()
                self.be_born()
                self.beat()
            for observer in self.observers:
                assert observer.is_alive("f1")
                assert observer.view["f1"].epoch == self.epoch

    def beat(self):
        self.each(lambda observer: observer.on_sign("f1", self.epoch, self.now, "beat", 50 * MS))

    @rule()
    def die_and_be_buried(self):
        """A beat and then the will: nobody takes it for alive, and none of its beats revives it."""
        if self.lives:
            self.beat_and_be_seen()
            self.die()
            for observer in self.observers:
                assert not observer.is_alive("f1")
                observer.on_sign("f1", self.epoch, self.now, "beat", 50 * MS)
                assert not observer.is_alive("f1")


TestLivesAndLies = LivesAndLies.TestCase


def test_who_comes_after_an_old_death_was_said_again_is_not_misled_by_a_made_up_beat():
    life = LivesAndLies()
    life.be_born()
    life.forge_a_status(epoch=0, online=False)
    life.begin_to_observe()
    life.forge_a_sign(epoch=2, layer="beat", interval_ms=1)
    life.beat_and_be_seen()


def test_a_status_survives_the_wire_and_anything_else_is_refused():
    status = Status(online=True, epoch=3, bundle="ab")
    assert decode_status(encode_status(status)) == status
    for garbage in (b"", b"{}", b"[1]", b"\xff\xfe", b'{"online":1,"epoch":2}', b'{"online":true,"epoch":1,"x":1}'):
        with pytest.raises(StatusError):
            decode_status(garbage)
