"""The built-in kinds of source: what they make of good input, and the sentence for every bad one."""

import os
import sys
import threading

import numpy as np
import pytest

from broker.errors import FogError
from edge_agent import images
from edge_agent.kinds import SourceError, csv, folder, mqtt, replay
from edge_agent.sample import Leaf, SampleRefused, numbers, vector
from edge_agent.sources import find, opened

LEAF = Leaf("iot", (3,))


def drawn(source, count):
    """The next samples, a refused one as its sentence."""

    def one():
        try:
            return next(source).tolist()
        except SampleRefused as refusal:
            return str(refusal)

    return [one() for _ in range(count)]


def test_a_file_is_replayed_row_by_row_and_over_again(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    (tmp_path / "x.csv").write_text("a,b,c\n0,1,2\n\n3,4,5\n")
    for name in ("x.npy", "x.csv"):
        file = str(tmp_path / name)
        assert drawn(replay(LEAF, file=file), 3) == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]
        assert len(list(replay(LEAF, file=file, loop=False))) == 2


def test_a_bad_row_or_line_is_named_and_those_behind_it_still_come(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0, 1, np.nan], [3, 4, 5]]))
    file = str(tmp_path / "x.npy")
    refusal, good = drawn(replay(LEAF, file=file), 2)
    assert refusal == f"{file}, row 1: value 3 is nan, not a finite float32"
    assert good == [3, 4, 5]
    (tmp_path / "x.csv").write_bytes(b"1,2,3\n1,2\n1,two,3\n1,2,1e99\n\xff\xfe\n4,5,6\n")
    file = str(tmp_path / "x.csv")
    assert drawn(csv(LEAF, file=file), 6) == [
        [1, 2, 3],
        f"{file}, line 2: 2 values (2,), the bundle wants 3 (3,)",
        f"{file}, line 3: could not convert string to float: 'two'",
        f"{file}, line 4: value 3 is 1e+99, not a finite float32",
        f"{file}, line 5: not text",
        [4, 5, 6],
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.npy", b"", "not an array of numbers"),
        ("x.npy", b"\x93NUMPY\x01\x00garbage", "not an array of numbers"),
        ("x.csv", b"a,b,c\n", "holds no line of numbers"),
        ("none.npy", None, "cannot be read (No such file or directory)"),
        ("none.csv", None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_named(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        next(replay(LEAF, file=str(tmp_path / name)))
    assert str(tmp_path / name) in str(caught.value)
    assert sentence in str(caught.value)


def test_no_pickle_is_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(SourceError, match="not an array of numbers"):
        replay(LEAF, file=str(tmp_path / "x.npy"))
    with pytest.raises(SampleRefused, match="not an image that can be read"):
        images.pixels(tmp_path / "x.npy")


def test_an_array_of_one_sample_is_not_taken_for_one_of_many(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(SourceError, match=r"holds \(3,\), one sample a row is expected: \(rows, 3\)"):
        replay(LEAF, file=str(tmp_path / "x.npy"))


def test_a_folder_shows_its_images_by_name_and_what_came_meanwhile_in_the_next_round(tmp_path):
    leaf = Leaf("camera", (12,))
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# by hand\n2 2\n255\n" + rgb.tobytes())
    (tmp_path / "c.pgm").write_bytes(b"P5 4 3 65535\n" + np.arange(12, dtype=">u2").tobytes())
    np.save(tmp_path / "b.npy", rgb * 2)
    (tmp_path / "note.txt").write_text("no image")
    source = folder(leaf, path=str(tmp_path))
    first = drawn(source, 3)
    assert first == [list(range(12)), list(range(0, 24, 2)), list(range(12))]
    np.save(tmp_path / "aa.npy", rgb * 3)
    assert drawn(source, 2)[1] == list(range(0, 36, 3))
    assert len(list(folder(leaf, path=str(tmp_path), loop=False))) == 4


def test_a_bad_image_is_named_and_the_next_one_still_comes(tmp_path):
    leaf = Leaf("camera", (12,))
    (tmp_path / "a.ppm").write_bytes(b"P6 2 2 255\nshort")
    (tmp_path / "b.ppm").write_bytes(b"P3 2 2 255\n0 0 0")
    (tmp_path / "c.pgm").write_bytes(b"P5 2 2 255\n" + bytes(4))
    (tmp_path / "d.npy").write_bytes(b"x")
    (tmp_path / "e.npy").mkdir()
    np.save(tmp_path / "h.npy", np.ones((2, 2, 3)))
    (tmp_path / "f.npy").write_bytes((tmp_path / "h.npy").read_bytes().replace(b"(2, 2, 3)", b"(2, 2, 3("))
    (tmp_path / "g.npy").write_bytes(b"PK\3\4, no archive")
    found = drawn(folder(leaf, path=str(tmp_path)), 8)
    for name, said, sentence in zip("abcdefg", found, [
        "announces 2 x 2 pixels up to 255, and holds 5 bytes",
        "neither a binary PGM (P5) nor a binary PPM (P6)",
        "4 values (2, 2), the bundle wants 12 (12,)",
        "not an image that can be read",
        "cannot be read (Is a directory)",
        "not an image that can be read (('EOF in multi-line statement'",
        "not an image that can be read (File is not a zip file)",
    ], strict=False):  # fmt: skip
        assert f"{tmp_path}/{name}" in said
        assert sentence in said
    assert found[7] == [1] * 12


def test_a_folder_without_images_or_that_is_none_is_named(tmp_path):
    with pytest.raises(SourceError, match="holds no image"):
        next(folder(LEAF, path=str(tmp_path)))
    with pytest.raises(SourceError, match="cannot be listed"):
        next(folder(LEAF, path=str(tmp_path / "none")))


def test_other_formats_take_pillow_and_without_it_one_sentence(tmp_path, monkeypatch):
    from PIL import Image

    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    leaf = Leaf("camera", (12,))
    good, bad = drawn(folder(leaf, path=str(tmp_path)), 2)
    assert good == list(range(12))
    assert "b.png: cannot be read" in bad
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(SampleRefused, match=r"a\.png: this format takes Pillow, which is not installed here: convert"):
        next(folder(leaf, path=str(tmp_path)))


def test_a_fifo_is_opened_again_when_its_writer_is_gone(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    def write():
        for line in ("1,2,3\n4,5,6\n", "7,8,9\n"):
            (tmp_path / "pipe").write_text(line)

    threading.Thread(target=write, daemon=True).start()
    assert drawn(csv(LEAF, file=str(tmp_path / "pipe")), 3) == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_line_that_its_writer_did_not_finish_is_no_sample_but_a_file_may_end_without(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    def write(line):
        (tmp_path / "pipe").write_text(line)

    first = threading.Thread(target=write, args=["1,2,35\n1,2,3"], daemon=True)
    first.start()
    source = csv(LEAF, file=str(tmp_path / "pipe"))
    assert drawn(source, 1) == [[1, 2, 35]]
    first.join()
    threading.Timer(0.3, write, ["7,8,9\n"]).start()  # once it is seen that the first is gone
    assert drawn(source, 1) == [[7, 8, 9]]
    (tmp_path / "x.csv").write_text("1,2,35\n1,2,3")
    assert drawn(csv(LEAF, file=str(tmp_path / "x.csv")), 2) == [[1, 2, 35], [1, 2, 3]]


def test_messages_are_numbers_with_or_without_brackets_or_raw_floats():
    raw = np.array([1, 2, 3], "<f4").tobytes()
    leaf = LEAF._replace(messages=iter([b"1, 2,3", b"[1,2,3]", b"1;2;3", raw]))
    assert drawn(mqtt(leaf, topic="plant/a"), 4)[:3] == [
        [1, 2, 3], [1, 2, 3], "plant/a: could not convert string to float: '1;2;3'",
    ]  # fmt: skip
    leaf = LEAF._replace(messages=iter([raw, raw[:-1], raw[:-4]]))
    assert drawn(mqtt(leaf, topic="plant/a", payload="float32"), 3) == [
        [1, 2, 3], "plant/a: 11 bytes are no float32 values", "plant/a: 2 values (2,), the bundle wants 3 (3,)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "[]", "1,2,", "1,2,nan", "1,2,inf", "1,2,3,4", "[[1,2,3]]", "0x1,2,3", "1e500,2,3"]
)
def test_text_that_is_not_exactly_the_numbers_wanted_is_refused(text):
    with pytest.raises(SampleRefused, match="here: "):
        numbers(text, (3,), "here")


@pytest.mark.parametrize(
    "value", [["a", "b", "c"], [1, 2, None], [[1], [2, 3]], 1j * np.ones(3), np.zeros(4), object()]
)
def test_what_is_no_vector_of_the_leafs_width_is_refused(value):
    with pytest.raises(SampleRefused, match="here: "):
        vector(value, (3,), "here")


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("oracle", {}, "no source of kind 'oracle' here: there are csv, folder, mqtt, replay, and what"),
        ("replay", {}, "source iot, kind replay: missing a required.* 'file'; its options are file, loop"),
        ("csv", {"fiel": "x"}, "source iot, kind csv: got an unexpected keyword argument 'fiel'; its options are file"),
        ("csv", {"file": 3}, "source iot, kind csv: file = 3 is no str"),
        ("replay", {"file": "x", "loop": 1}, "source iot, kind replay: loop = 1 is no bool"),
    ],
)
def test_a_source_that_cannot_be_is_one_sentence(kind, options, sentence):
    with pytest.raises(FogError, match=sentence):
        find(kind, options, LEAF)


def test_an_unknown_payload_is_refused():
    with pytest.raises(SourceError, match="payload 'xml': write one of text, float32"):
        opened(find("mqtt", options := {"topic": "a", "payload": "xml"}, LEAF), options, LEAF)
