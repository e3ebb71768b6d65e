import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from support import SHARED_DATA
from test_folder import no_file_over

from export.data import import_data, imported_sets, load_data, status
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
    for content in (b"PK\x03\x04 broken", b""):
        (folder / "rows.npz").write_bytes(content)
        with pytest.raises(DataError, match="damaged"):
            load_data("mhealth")
        assert status("mhealth").startswith("damaged: ")


def test_an_import_that_cannot_be_kept_leaves_nothing(tmp_path):
    source = logs(tmp_path / "logs")
    with no_file_over(1000), pytest.raises(DataError, match="mhealth"):
        import_data("mhealth", source)
    assert list((tmp_path / "data" / "mhealth").iterdir()) == []


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


def test_the_cameras_of_the_authors_are_imported_whole():
    archive = SHARED_DATA / "multicamera-32x32-jpg.tar.xz"
    if not archive.exists():
        pytest.skip(f"no {archive}: set FOGGUARD_TEST_DATA")
    assert status("camera") == "missing"
    import_data("camera", archive)
    rows = load_data("camera")
    assert {name: values.shape for name, values in rows.sensors.items()} == {
        f"camera{number}": (1379, 3072) for number in range(1, 7)
    }
    assert [len(part) for part in split_rows(rows, "given", 0)] == [1110, 146, 123]
    train = split_rows(rows, "given", 0).train
    assert dict(zip(rows.class_names, np.bincount(rows.labels[train]).tolist(), strict=True)) == {
        "person": 290, "car": 813, "bus": 7,
    }  # fmt: skip
    assert status("camera") == "here, verified: 1,379 objects, 1,110 of them to train"


def image(size=(32, 32), colour=(200, 10, 10)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG", quality=95)
    return file.getvalue()


def views(folder, cameras=range(6), size=(32, 32)):
    for part in ("train", "test", "holdout"):
        (folder / f"{part}_dir" / "car_images").mkdir(parents=True, exist_ok=True)
        for camera in cameras:
            (folder / f"{part}_dir" / "car_images" / f"c{camera}_0_7.jpg").write_bytes(image(size))
    return folder


def test_pixels_stand_row_by_row_as_red_green_blue(tmp_path):
    import_data("camera", views(tmp_path / "images"))
    rows = load_data("camera")
    assert rows.parts.tolist() == [2, 1, 0] or sorted(rows.parts.tolist()) == [0, 1, 2]
    np.testing.assert_allclose(rows.sensors["camera3"].reshape(3, 1024, 3).mean(axis=1), [[200, 10, 10]] * 3, atol=4)


def test_images_that_are_not_the_cameras_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no object with all six views"):
        import_data("camera", views(tmp_path / "five", cameras=range(5)))
    with pytest.raises(DataError, match="64 x 32 pixels, 32 x 32 are expected"):
        import_data("camera", views(tmp_path / "wide", size=(64, 32)))
    damaged = views(tmp_path / "damaged")
    (damaged / "train_dir" / "car_images" / "c2_0_7.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"train_dir/car_images/c2_0_7\.jpg: no image"):
        import_data("camera", damaged)


def tables(folder, text="activity,ax,ay,temperature,person\nwalk,1,2,3,ann\nrun,4,5,6,bob\nwalk,7,8,9.5,ann\n"):
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text(text)
    return folder


def test_a_folder_of_csv_files_is_a_data_set(tmp_path):
    sensors = ["wrist=ax,ay", "room=temperature"]
    import_data("mine", tables(tmp_path / "csv"), "activity", sensors, "person")
    rows = load_data("mine")
    assert imported_sets() == ["mine"]
    assert rows.sensors["wrist"].tolist() == [[1, 2], [4, 5], [7, 8]]
    assert rows.sensors["room"].tolist() == [[3], [6], [9.5]]
    assert rows.class_names == ("run", "walk")
    assert rows.labels.tolist() == [1, 0, 1]
    assert rows.groups.tolist() == [0, 1, 0]
    assert status("mine").startswith("here, sha256 ")


def test_folders_named_train_validation_and_test_are_a_split(tmp_path):
    for part in ("train", "validation", "test"):
        tables(tmp_path / "csv" / part)
    import_data("mine", tmp_path / "csv", "activity", ["wrist=ax,ay"])
    assert [len(part) for part in split_rows(load_data("mine"), "given", 0)] == [3, 3, 3]
    tables(tmp_path / "csv" / "more")
    with pytest.raises(DataError, match="some files lie in train, validation, test and some do not"):
        import_data("mine", tmp_path / "csv", "activity", ["wrist=ax,ay"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("activity,ax\nwalk,1\n", "a.csv: no column 'ay': there are activity, ax"),
        ("activity,ax,ay\nwalk,1,soft\n", "a.csv, line 2, column ay: 'soft' is no number"),
        ("activity,ax,ay\nwalk,1\n", "a.csv, line 2: fewer values than columns"),
        ("activity,ax,ay\n", "holds no rows in CSV files"),
        ("activity,ax,ay\nwalk,1,5,2\n", "a.csv, line 2: more values than columns"),
        ("activity,ax,ay,ax\nwalk,1,5,2\n", "a.csv: there are several columns 'ax'"),
        ("activity,ax,ay\n ,1,2\n", "a.csv, line 2: no activity"),
        ("activity,ax,ay\nwalk,1,1e39\n", "a.csv, line 2, column ay: '1e39' is no number, or beyond float32"),
    ],
)
def test_csv_files_that_do_not_fit_say_where(tmp_path, text, sentence):
    with pytest.raises(DataError, match=sentence):
        import_data("mine", tables(tmp_path / "csv", text), "activity", ["wrist=ax,ay"])
    assert imported_sets() == []


def test_a_sensor_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="wrist is named twice"):
        import_data("mine", tables(tmp_path / "csv"), "activity", ["wrist=ax", "wrist=ay"])


def test_any_text_may_name_a_class(tmp_path):
    text = "activity,ax\n²,1\n10,2\n9,3\nrun,4\n"
    import_data("mine", tables(tmp_path / "csv", text), "activity", ["wrist=ax"])
    assert load_data("mine").class_names == ("9", "10", "run", "²")


def test_rows_that_are_split_otherwise_are_another_data_set(tmp_path):
    source = tables(tmp_path / "csv")
    hashes = set()
    for group in (None, "person", "ay"):
        import_data("mine", source, "activity", ["wrist=ax,ay"], group)
        hashes.add(load_data("mine").sha256)
    assert len(hashes) == 3


@pytest.mark.parametrize("form", ["zip", "gz", "xz"])
def test_a_damaged_archive_is_one_sentence(tmp_path, form):
    file = tmp_path / f"m.{form}"
    noise = np.random.default_rng(0).bytes(100_000)
    if form == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", noise)
        content = file.read_bytes()
        file.write_bytes(content[:200] + bytes(100) + content[300:])
    else:
        with tarfile.open(file, f"w:{form}") as archive:
            archive.addfile(tarfile.TarInfo("a.csv"), io.BytesIO())
            told = tarfile.TarInfo("b.csv")
            told.size = len(noise)
            archive.addfile(told, io.BytesIO(noise))
        file.write_bytes(file.read_bytes()[:50_000])
    with pytest.raises(DataError, match="damaged"):
        import_data("mine", file, "activity", ["wrist=ax,ay"])


def test_a_split_of_its_own_is_asked_of_a_set_that_has_none():
    with pytest.raises(DataError, match="watch gives no split of its own"):
        split_rows(load_data("watch"), "given", 0)
