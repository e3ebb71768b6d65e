import zipfile

import numpy as np
import pytest
from support import SHARED_DATA

from export.data import import_data, load_data
from export.data.rows import DataError, split_rows
from export.data.watch import features


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FOGGUARD_DATA", str(tmp_path / "data"))


def logs(folder, subjects=(1, 2), seed=0):
    """Files as UCI has them: 23 channels and a label, some of it unlabelled."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for subject in subjects:
        values = generator.normal(size=(60, 23))
        labels = np.repeat([0, 12, 3], 20)
        np.savetxt(
            folder / f"mHealth_subject{subject}.log", np.column_stack([values, labels]), fmt="%.6f", delimiter="\t"
        )
    return folder


def test_the_smartwatch_set_is_real():
    rows = load_data("watch")
    assert rows.sensors["iot"].shape == (2369, 36)
    assert rows.class_names == ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
    assert np.bincount(rows.labels).tolist() == [254, 389, 396, 363, 366, 294, 307]
    assert set(rows.groups) == set(range(1, 11))


def test_features_are_what_they_are_called():
    window = np.array([[[1.0], [3.0], [2.0]]], np.float32)
    assert features(window)[0].tolist() == pytest.approx([2, np.std([1, 3, 2]), 1, 3, 1.5, np.sqrt(14 / 3)])


def test_the_archive_of_mhealth_is_imported_whole():
    archive = SHARED_DATA / "mhealth-12ch-csv.tar.xz"
    if not archive.exists():
        pytest.skip(f"no {archive}: set FOGGUARD_TEST_DATA")
    import_data("mhealth", archive)
    rows = load_data("mhealth")
    assert rows.sensors["iot"].shape == (332_853, 12)
    assert np.bincount(rows.labels).tolist() == [30720] * 5 + [28315, 29441, 29337] + [30720] * 3
    assert len(rows.class_names) == 11
    assert rows.sensors["iot"].std() > 1  # not truncated to integers
    assert (rows.sensors["iot"] % 1 != 0).mean() > 0.9


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_the_original_logs_of_mhealth_are_imported_without_the_null_class(tmp_path, form):
    source = logs(tmp_path / "MHEALTHDATASET")
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
            for file in source.iterdir():
                archive.write(file, f"MHEALTHDATASET/{file.name}")
        source = tmp_path / "m.zip"
    import_data("mhealth", source)
    rows = load_data("mhealth")
    assert rows.sensors["iot"].shape == (80, 23)
    assert rows.class_names == ("lying down", "jump front and back")
    assert sorted(np.unique(rows.groups)) == [1, 2]
    assert np.bincount(rows.labels).tolist() == [40, 40]


def test_a_missing_set_says_where_to_get_it_and_where_it_goes():
    with pytest.raises(DataError, match=r"mhealth is not in .*UCI.*fogguard data import mhealth"):
        load_data("mhealth")
    with pytest.raises(DataError, match="unknown data set 'mhelth'"):
        load_data("mhelth")


def test_what_is_no_data_set_is_refused_and_leaves_nothing(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "a.txt"
    text.write_text("hello")
    for source, sentence in ((tmp_path / "none", "no such file"), (empty, "holds neither"), (text, "neither a folder")):
        with pytest.raises(DataError, match=sentence):
            import_data("mhealth", source)
    bad = logs(tmp_path / "bad")
    (bad / "mHealth_subject2.log").write_text("1\t2\tthree\n")
    with pytest.raises(DataError, match=r"mHealth_subject2\.log"):
        import_data("mhealth", bad)
    assert not (tmp_path / "data" / "mhealth").exists()


def test_a_label_that_no_activity_has_is_refused(tmp_path):
    source = logs(tmp_path / "logs", subjects=[1])
    with (source / "mHealth_subject1.log").open("a") as file:
        file.write("\t".join(["0.5"] * 23 + ["13"]) + "\n")
    with pytest.raises(DataError, match="labels outside 0 to 12"):
        import_data("mhealth", source)


def test_a_damaged_import_says_to_import_again(tmp_path):
    folder = tmp_path / "data" / "mhealth"
    folder.mkdir(parents=True)
    (folder / "mhealth.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match="damaged"):
        load_data("mhealth")


def test_a_split_is_80_10_10_and_the_same_for_a_seed():
    rows = load_data("watch")
    split = split_rows(rows, "row", 0)
    assert [len(part) for part in split] == [1895, 237, 237]
    assert sorted(np.concatenate(split)) == list(range(2369))
    assert all(np.array_equal(a, b) for a, b in zip(split, split_rows(rows, "row", 0), strict=True))
    assert not np.array_equal(split.test, split_rows(rows, "row", 1).test)


def test_a_split_by_group_tears_no_person_apart():
    rows = load_data("watch")
    people = [set(rows.groups[part]) for part in split_rows(rows, "group", 0)]
    assert [len(each) for each in people] == [8, 1, 1]
    assert set.union(*people) == set(range(1, 11))
