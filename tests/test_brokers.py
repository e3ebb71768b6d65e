from broker.brokers import Brokers


def lost(brokers, now_s=0.0):
    """The fleet was at its home, and lost it at `now_s`."""
    brokers.on_up(brokers.home)
    brokers.candidates(now_s)
    return brokers


def test_a_single_broker_is_waited_for_for_ever():
    brokers = lost(Brokers(["a"]))
    brokers.on_silence("a")
    assert [brokers.candidates(now_s) for now_s in (0, 1, 1000)] == [["a"]] * 3


def test_a_broker_that_restarts_at_once_keeps_its_fleet():
    assert lost(Brokers("abc")).candidates(0.2) == ["a"]


def test_when_it_stays_away_the_next_ones_are_tried_and_it_still_comes_first():
    assert lost(Brokers("abc")).candidates(0.4) == ["a", "b", "c"]


def test_one_that_takes_connections_and_does_not_answer_is_passed_over_until_none_is_left():
    brokers = lost(Brokers("abc"))
    brokers.on_silence("a")
    assert brokers.candidates(0.4) == ["b", "c"]
    brokers.on_silence("b")
    brokers.on_silence("c")
    assert brokers.candidates(0.5) == ["a", "b", "c"]
    assert brokers.candidates(0.6) == ["a", "b", "c"]


def test_where_the_fleet_went_is_home_and_after_the_last_comes_the_first():
    brokers = lost(Brokers("abc"))
    brokers.on_up("c")
    assert brokers.candidates(10.0) == ["c"]
    assert brokers.candidates(10.4) == ["c", "a", "b"]


def test_when_all_is_switched_on_at_once_the_first_gets_its_time():
    brokers = Brokers("ab")
    assert brokers.candidates(0) == brokers.candidates(4.9) == ["a"]
    assert brokers.candidates(5.1) == ["a", "b"]
