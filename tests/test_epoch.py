import pytest

from edge_agent.epoch import EpochError, next_epoch


def test_an_epoch_grows_and_survives(tmp_path):
    file = tmp_path / "deep" / "e1.epoch"
    assert [next_epoch(file) for _ in range(3)] == [1, 2, 3]
    assert file.read_text() == "3"
    assert [path.name for path in file.parent.iterdir()] == ["e1.epoch"]


def test_an_epoch_rises_above_what_others_remember(tmp_path):
    file = tmp_path / "e1.epoch"
    assert [next_epoch(file, 57), next_epoch(file), next_epoch(file, 3)] == [58, 59, 60]


def test_a_damaged_epoch_is_not_restarted_from_one(tmp_path):
    file = tmp_path / "e1.epoch"
    file.write_text("")
    with pytest.raises(EpochError, match="is no epoch"):
        next_epoch(file)
