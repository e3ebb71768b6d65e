"""Folders appear whole or not at all: also where a disk is full, or a link leads to them."""

import contextlib
import json
import resource

import pytest

from export.folder import FolderError, written_folder


@contextlib.contextmanager
def no_file_over(size_bytes):
    """Let writing fail as it does when a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(target, text="new"):
    with written_folder(target, "run.json") as folder:
        (folder / "run.json").write_text(json.dumps({"schema_version": 2, "text": text}))


def text_in(target):
    return json.loads((target / "run.json").read_text())["text"]


def test_a_disk_that_is_full_is_one_sentence_and_leaves_what_was_there(tmp_path):
    write(tmp_path / "run", "old")
    with no_file_over(100), pytest.raises(FolderError, match="run: cannot be written"):
        write(tmp_path / "run", "new" * 100)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert text_in(tmp_path / "run") == "old"


@pytest.mark.parametrize("is_there", [True, False])
def test_where_a_link_leads_is_written_and_the_link_stays(tmp_path, is_there):
    there = tmp_path / "disk" / "run"
    there.parent.mkdir()
    if is_there:
        write(there, "old")
    (tmp_path / "run").symlink_to(there)
    write(tmp_path / "run")
    assert text_in(there) == "new"
    assert (tmp_path / "run").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "run"]
    assert [path.name for path in there.parent.iterdir()] == ["run"]


def test_what_others_made_is_not_replaced_whatever_they_call_their_files(tmp_path):
    (tmp_path / "run.json").write_text('{"name": "my extension"}')
    with pytest.raises(FolderError, match=r"holds no run\.json of ours"):
        write(tmp_path)
    assert (tmp_path / "run.json").read_text() == '{"name": "my extension"}'
