"""The drill by hand: what an operator is told, whatever he does instead."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.byhand import ByHand
from benchmarks.letters import large

NODES = ("f1", "f2", "e1")


class Story:
    """An operator with a watch: who is down at which second."""

    def __init__(self, rounds=1, hold_s=2.0, patience_s=5.0, said=(), at_s=0.0):
        self.by_hand = ByHand(NODES, 0, hold_s, patience_s, rounds, said, at_s)
        self.at_s, self.down, self.said = at_s, {}, list(said)

    def wait(self, seconds):
        """What is said meanwhile."""
        said = []
        for _ in range(round(seconds * 10)):
            self.at_s += 0.1
            said += self.by_hand.look(self.at_s, self.down)
        self.said += said
        return [(each.kind, each.node) for each in said]

    def until_asked(self):
        for _ in range(100):
            said = self.wait(0.1)
            if self.by_hand.headline.startswith("unplug"):
                assert said == [("asked", self.by_hand.headline.removeprefix("unplug "))]
                return said[0][1]
        raise AssertionError("never asked")

    def fall(self, node):
        self.down[node] = self.at_s

    def rise(self, node):
        del self.down[node]


def test_each_node_is_asked_for_once_a_round_and_timed():
    story, asked = Story(), []
    while not story.by_hand.is_over:
        if story.wait(0.1) and story.by_hand.headline.startswith("unplug"):
            node = story.by_hand.headline.removeprefix("unplug ")
            asked.append(node)
            story.wait(1.5)
            story.fall(node)
            (gone,) = story.by_hand.look(story.at_s, story.down)
            assert (gone.kind, gone.node, gone.seconds) == ("unplugged", node, 1.5)
            assert story.by_hand.headline == ""
            assert story.wait(2.1) == [("asked", node)]
            assert story.by_hand.headline == f"plug in {node}"
            story.rise(node)
            assert story.wait(0.1) == [("returned", node)]
    assert sorted(asked) == sorted(NODES)


def test_the_wrong_device_is_named_and_both_are_to_come_back():
    story = Story()
    node = story.until_asked()
    other = next(each for each in NODES if each != node)
    story.fall(other)
    (said,) = story.by_hand.look(story.at_s, story.down)
    assert said.text == f"that was {other}, not {node}: {node} is the one to unplug"
    assert story.by_hand.headline == f"unplug {node}"
    story.fall(node)
    assert story.wait(0.1) == [("unplugged", node)]
    story.wait(2.1)
    assert story.by_hand.headline == f"plug in {' '.join(sorted((node, other)))}"
    story.rise(node)
    assert story.wait(0.1) == [("returned", node)]
    assert story.by_hand.headline == f"plug in {other}"
    story.rise(other)
    assert story.wait(0.1) == [("returned", other)]
    assert story.by_hand.headline == ""


def test_two_at_once_are_both_seen():
    story = Story()
    node = story.until_asked()
    other = next(each for each in NODES if each != node)
    story.fall(node)
    story.fall(other)
    assert set(story.wait(0.1)) == {("unplugged", node), ("also", other)}


def test_never_and_too_late():
    story = Story()
    node = story.until_asked()
    assert story.wait(5.1) == [("never", node)]
    story.fall(node)
    assert story.wait(0.1) == [("late", node)]
    assert story.wait(2.1) == [("asked", node)]
    assert story.by_hand.headline == f"plug in {node}"


def test_a_device_that_does_not_come_back_is_done_without():
    story = Story()
    node = story.until_asked()
    story.fall(node)
    said = story.wait(7.2)
    assert said[-1] == ("missing", node)
    assert story.until_asked() != node
    story.rise(node)
    assert story.wait(0.1) == [("back", node)]


def test_back_too_early_and_gone_unasked():
    story = Story()
    node = story.until_asked()
    story.fall(node)
    story.wait(0.5)
    story.rise(node)
    assert story.wait(0.1) == [("early", node)]
    story.fall(node)
    assert story.wait(0.1) == [("unasked", node)]


def test_a_drill_that_goes_on_asks_for_those_only_who_had_no_turn_yet():
    first = Story()
    node = first.until_asked()
    first.fall(node)
    first.wait(2.2)
    first.rise(node)
    assert first.wait(0.1) == [("returned", node)]
    asked = first.until_asked()
    again = Story(said=first.said, at_s=first.at_s)
    assert again.wait(1.9) == []  # calm
    assert again.until_asked() == asked
    assert again.wait(5.1) == [("never", asked)]
    assert {node, asked, again.until_asked()} == set(NODES)
    again.wait(7.2)
    assert again.by_hand.is_over


def test_who_is_still_unplugged_when_a_drill_goes_on_is_to_be_plugged_in():
    first = Story()
    node = first.until_asked()
    first.fall(node)
    assert first.wait(0.1) == [("unplugged", node)]
    again, later = (Story(said=first.said, at_s=first.at_s) for _ in range(2))
    again.fall(node)
    assert again.wait(2.1) == [("asked", node)]
    assert again.by_hand.headline == f"plug in {node}"
    assert later.wait(0.1) == [("back", node)]  # in between


@given(st.lists(st.tuples(st.floats(0.1, 4), st.sets(st.sampled_from([*NODES, "cloud"]))), max_size=60))
def test_whatever_happens_every_fall_and_rise_is_told_and_all_comes_to_an_end(happenings):
    by_hand = ByHand(NODES, 1, 1.0, 2.0, 2)
    at_s, before = 0.0, frozenset()
    for seconds, down in happenings:
        at_s += seconds
        said = by_hand.look(at_s, dict.fromkeys(down, at_s))
        told = {remark.node for remark in said if remark.kind not in ("asked", "never", "missing")}
        assert told == before ^ frozenset(down)
        assert by_hand.headline == "" or by_hand.headline.split()[0] in ("unplug", "plug")
        before = frozenset(down)
    for _ in range(200):
        at_s += 0.5
        by_hand.look(at_s, {})
    assert by_hand.is_over


def test_nobody_is_asked_for_while_all_are_away_for_good():
    by_hand = ByHand(NODES, 1, 1.0, 2.0, None)
    at_s = 0.0
    for _ in range(300):
        at_s += 0.5
        by_hand.look(at_s, dict.fromkeys(NODES, 0.0))
        assert not by_hand.headline.startswith("unplug")


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-_ é", max_size=30), st.integers(1, 200))
def test_large_letters_never_break_a_line(text, columns):
    drawn = large(text, columns)
    assert drawn == text.upper() or max(map(len, drawn.splitlines()), default=0) <= columns


def test_large_letters_are_large():
    drawn = large("unplug f1", 80)
    assert drawn.count("\n") == 4
    assert "██" in drawn
    assert large("plug in f1 f2", 40).count("\n\n") > 0
