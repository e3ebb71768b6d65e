"""`fogguard pki init`: a folder of certificates that is filled, never overwritten."""

import datetime
import json
import os
import stat

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from edge_agent.signature import load_public_key
from provisioning import certificates, pki

NAMES = ["iot", "e1", "f1"]
MEMBERS = ["broker", *NAMES, "operator", "feeder", "watcher", "witness", "observer"]


@pytest.fixture
def folder(tmp_path):
    pki.init(tmp_path / "pki", "house", NAMES)
    return tmp_path / "pki"


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def certificate(folder, name):
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_everybody_has_a_certificate_under_their_own_name_and_a_key_of_their_own(folder):
    expected = {f"{name}.{kind}" for name in ["ca", *MEMBERS] for kind in ("crt", "key")}
    assert set(contents(folder)) == expected | {"signing.key", "signing.pub"}
    for name in MEMBERS:
        (common,) = certificate(folder, name).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert common.value == name
    assert len({certificate(folder, name).public_key().public_numbers() for name in MEMBERS}) == len(MEMBERS)
    assert len({certificate(folder, name).serial_number for name in MEMBERS}) == len(MEMBERS)


def test_keys_are_for_nobody_but_their_owner_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        pki.init(tmp_path / "pki", "house", NAMES)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700
    for key in (tmp_path / "pki").glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_lifetimes_are_sane(folder):
    now = datetime.datetime.now(datetime.timezone.utc)
    for name, days in [("ca", 3650), *((name, 730) for name in MEMBERS)]:
        found = certificate(folder, name)
        assert abs(found.not_valid_after_utc - now - datetime.timedelta(days=days)) < datetime.timedelta(minutes=5)
        assert found.not_valid_before_utc < now - datetime.timedelta(days=300)  # a device has no clock at boot


def test_a_second_run_changes_nothing_and_a_third_makes_what_is_missing(folder):
    before = contents(folder)
    again = pki.init(folder, "house", NAMES)
    assert (again.made, len(again.kept), contents(folder)) == ([], len(before), before)
    (folder / "e1.crt").unlink()
    (folder / "signing.pub").unlink()
    repaired = pki.init(folder, "house", [*NAMES, "f2"])
    assert repaired.made == ["e1.crt", "f2.key", "f2.crt", "signing.pub"]
    after = contents(folder)
    assert after["signing.pub"] == before["signing.pub"]
    assert after["e1.key"] == before["e1.key"]
    assert after["e1.crt"] != before["e1.crt"]
    assert {name: after[name] for name in before if name != "e1.crt"} == {
        name: before[name] for name in before if name != "e1.crt"
    }
    load_public_key(folder / "signing.pub")


def test_what_ends_soon_is_said(folder, monkeypatch):
    monkeypatch.setattr(certificates, "_LEAF_DAYS", 30)
    (folder / "e1.crt").unlink()
    assert pki.init(folder, "house", NAMES).expiring == ["e1"]


def copied(folder, source, target):
    (folder / target).write_bytes((folder / source).read_bytes())


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda f: (f / "ca.key").unlink(), "ca.key is missing, but ca.crt is there: put the key back"),
        (lambda f: (f / "ca.crt").unlink(), "ca.crt is missing, but broker.crt is there: put it back"),
        (lambda f: (f / "e1.key").unlink(), "e1.key is missing, but e1.crt is there"),
        (lambda f: (f / "signing.key").unlink(), "signing.key is missing, but signing.pub is there"),
        (lambda f: copied(f, "f1.key", "e1.key"), "e1.key is not the key of e1.crt"),
        (lambda f: (f / "e1.crt").write_text("x"), "e1.crt: not a certificate in PEM"),
        (lambda f: (f / "e1.key").write_text("x"), "e1.key: not a private key in PEM"),
        (lambda f: copied(f, "e1.crt", "ca.crt"), "is not of this folder's ca.crt"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_sentence_and_stays_as_it_is(folder, harm, sentence):
    harm(folder)
    before = contents(folder)
    with pytest.raises(pki.PkiError, match=sentence):
        pki.init(folder, "house", [*NAMES, "f2"])
    assert contents(folder) == before


def test_another_fleet_and_another_host_are_refused(folder):
    with pytest.raises(pki.PkiError, match=r"ca\.crt is of the fleet 'house', not 'home'"):
        pki.init(folder, "home", NAMES)
    with pytest.raises(pki.PkiError, match=r"broker\.crt is not for broker\.local, 192\.0\.2\.1: remove it"):
        pki.init(folder, "house", NAMES, ["broker.local", "192.0.2.1"])
    (folder / "broker.crt").unlink()
    assert pki.init(folder, "house", NAMES, ["broker.local", "192.0.2.1"]).made == ["broker.crt"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("pki init p --fleet a/b", "fleet 'a/b': use letters"),
        ("pki init p --fleet house --nodes e1,../x", "node '../x': use letters"),
        ("pki init p --fleet house --nodes operator", "node 'operator' cannot have a certificate of that name"),
        ("pki init p --fleet house --nodes Broker", "node 'Broker' cannot have a certificate of that name"),
        ("pki init p --fleet house --nodes e1,E1", "two of the names e1, E1 are one"),
        ("pki init p --fleet house --host a..b", "--host 'a..b': neither a host name nor an address"),
        ("pki init p --fleet house --bundle nowhere", "no bundle at nowhere"),
        ("pki init p --fleet house --bundle b --nodes e1", "leave out --nodes"),
        ("pki init taken/p --fleet house", "taken/p: cannot be written"),
        ("pki init p", "Missing option '--fleet'"),
        ("broker --pki p", "--render-mosquitto DIR --bundle BUNDLE --pki DIR"),
        ("broker --render-mosquitto c --pki p", "--render-mosquitto DIR --bundle BUNDLE --pki DIR"),
        ("ask f1 --fleet house --tls p --broker mqtts://127.0.0.1:9", "p holds no ca.crt: make it with"),
        ("ask f1 --fleet house --broker mqtt://127.0.0.1:9", "no broker answers at mqtt://127.0.0.1:9"),
        ("ask a/b --fleet house", "node 'a/b': use letters"),
        ("ask f1", "name the fleet with --fleet NAME, or --inventory fleet.toml"),
        ("run nowhere --tls p", "--tls is for agents that run elsewhere: add --external"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(fogguard, tmp_path, arguments, sentence):
    (tmp_path / "taken").write_text("mine")
    done = fogguard(*arguments.split())
    assert done.returncode == 2, done.stderr
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_command_writes_what_it_made(fogguard, tmp_path):
    done = fogguard("pki", "init", "p", "--fleet", "house", "--nodes", "iot,e1", "--json", "p.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["fleet"] == "house"
    assert {"ca.key", "e1.crt", "signing.pub"} <= set(found["made"])
    assert found["expires"].keys() == {
        "ca",
        "broker",
        "iot",
        "e1",
        "operator",
        "feeder",
        "watcher",
        "witness",
        "observer",
    }


def test_an_interrupted_write_leaves_no_half_of_a_file(folder, monkeypatch):
    (folder / "e1.crt").unlink()
    before = contents(folder)

    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(pki.PkiError, match="No space left on device"):
        pki.init(folder, "house", NAMES)
    assert contents(folder) == before
