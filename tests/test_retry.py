from broker.retry import Retry


def test_pauses_grow_from_a_moment_to_a_second_and_begin_anew_once_it_was_up():
    retry, now_s, pauses = Retry(), 100.0, []
    for _ in range(7):
        retry.on_attempt(now_s)
        pauses.append(round(retry.wait_s(now_s), 3))
        now_s += pauses[-1]
        assert retry.wait_s(now_s) < 1e-9
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    retry.on_up(now_s)
    retry.on_attempt(now_s)
    assert round(retry.wait_s(now_s), 3) == 0.05


def lives(*seconds):
    """Connections that lasted so long, one after the other."""
    retry, now_s = Retry(), 0.0
    for each in seconds:
        retry.on_up(now_s)
        now_s += each
        retry.on_lost(now_s)
    return retry


def test_five_brief_lives_in_a_row_are_somebody_else_s_work():
    assert lives(1, 1, 1, 1, 1).is_contested
    assert not lives(1, 1, 1, 1).is_contested


def test_one_long_life_in_between_is_a_broker_that_comes_and_goes():
    assert not lives(1, 1, 1, 1, 5, 1, 1).is_contested


def test_a_broker_that_was_gone_in_between_is_no_other_client_either():
    retry, now_s = Retry(), 0.0
    for _ in range(9):
        retry.on_up(now_s)
        retry.on_lost(now_s + 1)
        assert not retry.is_contested
        retry.on_attempt(now_s + 1)
        retry.on_silence()
        now_s += 2
