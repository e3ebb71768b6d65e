import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.presence import Presence, Status, StatusError, decode_status, encode_status


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


events = st.tuples(st.sampled_from(["birth", "death", "frame", "beat"]), st.integers(0, 5))


@given(st.lists(events, max_size=40))
def test_the_latest_epoch_decides_and_a_buried_one_stays_buried(history):
    presence = Presence(["f1"])
    buried = set()
    latest = -1
    for now, (kind, epoch) in enumerate(history):
        if kind in ("frame", "beat"):
            presence.on_sign("f1", epoch, now, kind)
        else:
            presence.on_status("f1", born(epoch) if kind == "birth" else lost(epoch), now)
            if kind == "death" and epoch >= latest:
                buried.add(epoch)
        latest = max(latest, epoch)
        assert presence.view["f1"].epoch == latest
        assert presence.is_alive("f1") == (latest not in buried)


def test_a_status_survives_the_wire_and_anything_else_is_refused():
    status = Status(online=True, epoch=3, bundle="ab")
    assert decode_status(encode_status(status)) == status
    for garbage in (b"", b"{}", b"[1]", b"\xff\xfe", b'{"online":1,"epoch":2}', b'{"online":true,"epoch":1,"x":1}'):
        with pytest.raises(StatusError):
            decode_status(garbage)
