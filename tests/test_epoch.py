import pytest

from broker.epoch import MAX_EPOCH
from broker.presence import Status
from edge_agent.epoch import EpochError, is_superseded, next_epoch


def test_an_epoch_grows_and_survives(tmp_path):
    file = tmp_path / "deep" / "e1.epoch"
    assert [next_epoch(file) for _ in range(3)] == [1, 2, 3]
    assert file.read_text() == "3"
    assert [path.name for path in file.parent.iterdir()] == ["e1.epoch"]


def test_an_epoch_rises_above_what_others_remember(tmp_path):
    file = tmp_path / "e1.epoch"
    assert [next_epoch(file, 57), next_epoch(file), next_epoch(file, 3)] == [58, 59, 60]


def test_after_the_last_number_comes_the_first_and_a_fresh_card_is_ahead_of_it(tmp_path):
    file = tmp_path / "e1.epoch"
    assert next_epoch(file, MAX_EPOCH) == 1
    file.write_text(str(MAX_EPOCH))
    assert [next_epoch(file), next_epoch(file)] == [0, 1]


def test_an_epoch_is_superseded_by_a_later_life_and_by_its_own_end():
    def known(epoch, online):
        return Status(online=online, epoch=epoch)

    assert is_superseded(5, known(6, True))
    assert is_superseded(5, known(1 << 51, False))
    assert is_superseded(5, known(5, False))
    assert not is_superseded(5, known(5, True))
    assert not is_superseded(5, known(4, False))
    assert not is_superseded(5, known(MAX_EPOCH, True))


@pytest.mark.parametrize("failing", ["/dev/full", "/proc/self/mem"])  # neither can be written
def test_a_disk_that_is_full_or_fails_stops_nobody_and_keeps_the_last_epoch(tmp_path, caplog, failing):
    file = tmp_path / "e1.epoch"
    assert next_epoch(file) == 1
    (tmp_path / "e1.new").symlink_to(failing)
    assert [next_epoch(file, 1), next_epoch(file, 2), next_epoch(file)] == [2, 3, 2]
    assert file.read_text() == "1"
    assert "epoch 3 is not kept there" in caplog.text
    (tmp_path / "e1.new").unlink()
    file.unlink()
    file.symlink_to("/proc/self/mem")  # which cannot be read either
    assert [next_epoch(file, 3), file.read_text()] == [4, "4"]


def test_a_damaged_epoch_is_not_restarted_from_one(tmp_path):
    file = tmp_path / "e1.epoch"
    for damaged in (b"", b"-1", b"x", b"\xff", str(MAX_EPOCH + 1).encode(), b"9" * 5000):
        file.write_bytes(damaged)
        with pytest.raises(EpochError, match="is no epoch"):
            next_epoch(file)
