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
    assert not presence.on_frame("f1", 1, 30)
    assert not presence.on_status("f1", born(1), 40)
    assert not presence.is_alive("f1")
    assert presence.on_frame("f1", 2, 50)
    assert presence.is_alive("f1")


def test_a_clean_stop_is_a_farewell():
    presence = Presence(["f1"])
    presence.on_status("f1", born(1), 10)
    presence.on_status("f1", Status(online=False, epoch=1, reason="stopped"), 20)
    assert presence.view["f1"].layer == "farewell"


events = st.tuples(st.sampled_from(["birth", "death", "frame"]), st.integers(0, 5))


@given(st.lists(events, max_size=40))
def test_the_latest_epoch_decides_and_a_buried_one_stays_buried(history):
    presence = Presence(["f1"])
    buried = set()
    latest = -1
    for now, (kind, epoch) in enumerate(history):
        if kind == "frame":
            presence.on_frame("f1", epoch, now)
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
