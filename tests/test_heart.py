from edge_agent.heart import Heart


def test_an_echo_tells_when_its_beat_was_sent():
    heart = Heart(50)
    first, second = heart.beat(1, 100, 0), heart.beat(1, 200, 0)
    assert (heart.echo(first), heart.echo(second)) == (100, 200)
    assert heart.echo(second) is None


def test_a_beat_is_due_after_each_interval_and_promises_no_less_than_a_computation_takes():
    heart = Heart(50)
    assert heart.due_ns == 0
    assert heart.beat(1, 7, 300.4).interval_ms == 300
    assert heart.due_ns == 7 + 50_000_000
    assert heart.beat(1, 8, 1.0).interval_ms == 50


def test_beats_that_never_come_back_are_forgotten():
    heart = Heart(50)
    beats = [heart.beat(1, now, 0) for now in range(1000)]
    assert heart.echo(beats[0]) is None
    assert heart.echo(beats[-1]) == 999
    assert len(heart._sent_ns) < 256
