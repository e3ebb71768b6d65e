"""A bundle's signature: what it covers, and who refuses what."""

import json
import subprocess

import pytest
from support import command

from edge_agent.bundle import BundleDamaged, load
from edge_agent.signature import (
    SIGNATURE,
    PublicKeyError,
    SignatureRefused,
    load_public_key,
    read_signature,
    signed_message,
)
from export.check import check
from provisioning import certificates, pki
from provisioning.signing import sign_bundle


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signing") / "pki"
    pki.init(folder, "house", [])
    return folder


@pytest.fixture
def signed(bundle_copy, keys):
    sign_bundle(bundle_copy, keys / "signing.key")
    return bundle_copy


def test_a_device_loads_a_bundle_that_its_key_signed(signed, keys, bundle):
    key = load_public_key(keys / "signing.pub")
    assert load(signed, key).sha256 == bundle.sha256
    assert read_signature(signed).key == key.hex()


def test_a_device_without_a_key_loads_any(signed, bundle):
    assert load(signed).sha256 == load(bundle.path).sha256


def test_a_bundle_that_is_not_signed_is_refused(bundle, keys):
    with pytest.raises(SignatureRefused, match="is not signed, and this device takes none that is not"):
        load(bundle.path, load_public_key(keys / "signing.pub"))


def test_a_changed_manifest_is_refused_before_it_is_parsed(signed, keys):
    manifest = signed / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1') + "not even JSON")
    with pytest.raises(SignatureRefused, match="not signed with this device's verify_key"):
        load(signed, load_public_key(keys / "signing.pub"))


def test_another_s_signature_is_refused_though_the_file_names_the_right_key(signed, keys, tmp_path):
    pki.init(tmp_path / "other", "house", [])
    mine, key = load_public_key(keys / "signing.pub"), load_public_key(tmp_path / "other" / "signing.pub")
    with pytest.raises(SignatureRefused):
        load(signed, key)
    sign_bundle(signed, tmp_path / "other" / "signing.key")
    forged = json.loads((signed / SIGNATURE).read_text())
    (signed / SIGNATURE).write_text(json.dumps({**forged, "key": mine.hex()}))
    with pytest.raises(SignatureRefused):
        load(signed, mine)
    assert "though it names key" in next(f.detail for f in check(signed)[1] if not f.ok)


def test_a_signature_of_the_bare_manifest_is_no_signature_of_a_bundle(signed, keys):
    """What is signed says what it is for: the same key may sign other things."""
    key = certificates.load_signing_key(keys / "signing.key")
    for message in ((signed / "manifest.json").read_bytes(), bytes.fromhex(load(signed).sha256)):
        found = json.loads((signed / SIGNATURE).read_text())
        (signed / SIGNATURE).write_text(json.dumps({**found, "signature": key.sign(message).hex()}))
        with pytest.raises(SignatureRefused):
            load(signed, load_public_key(keys / "signing.pub"))
    assert signed_message(load(signed).sha256).startswith(b"fogguard manifest\0")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "\xff", '{"key":"zz","signature":""}', '{"algorithm":"rsa","key":"","signature":""}']
)
def test_a_signature_file_that_is_none_is_one_sentence(signed, keys, text):
    (signed / SIGNATURE).write_text(text, encoding="latin-1")
    with pytest.raises(SignatureRefused, match=r"manifest\.sig: not a signature"):
        load(signed, load_public_key(keys / "signing.pub"))


def test_check_reports_the_signature(bundle, signed, keys):
    key = load_public_key(keys / "signing.pub")

    def found(path, verify_key=None):
        return next((f.ok, f.detail) for f in check(path, verify_key)[1] if f.name == "signature")

    assert found(bundle.path) == (True, "none: `fogguard sign` makes one")
    assert found(bundle.path, key)[0] is False
    assert found(signed)[0] is True
    assert "whether that is yours, --verify-key tells" in found(signed)[1]
    assert "the manifest is signed with key" in found(signed, key)[1]


def test_a_damaged_bundle_is_not_signed(bundle_copy, keys):
    (bundle_copy / "f1.onnx").write_bytes(b"")
    with pytest.raises(BundleDamaged, match=r"f1\.onnx was changed"):
        sign_bundle(bundle_copy, keys / "signing.key")
    assert not (bundle_copy / SIGNATURE).exists()


def test_a_key_that_openssl_made_signs_too(bundle_copy, tmp_path):
    key, public = tmp_path / "k.pem", tmp_path / "p.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    sign_bundle(bundle_copy, key)
    load(bundle_copy, load_public_key(public))


def test_a_file_without_a_public_key_is_one_sentence(tmp_path, keys):
    with pytest.raises(PublicKeyError, match="cannot be read"):
        load_public_key(tmp_path / "none")
    for wrong in ("ca.crt", "signing.key"):
        with pytest.raises(PublicKeyError, match="not a public key in PEM"):
            load_public_key(keys / wrong)
    pem = subprocess.run(["openssl", "ec", "-in", keys / "ca.key", "-pubout"], check=True, capture_output=True).stdout
    (tmp_path / "ec.pub").write_bytes(pem)
    with pytest.raises(PublicKeyError, match="not an Ed25519 public key"):
        load_public_key(tmp_path / "ec.pub")


def test_an_agent_with_a_verify_key_loads_no_graph_of_an_unsigned_bundle(tmp_path, bundle, keys):
    config = {"node": "e1", "bundle": str(bundle.path), "broker": "mqtt://127.0.0.1:9", "fleet": "house"}
    file = tmp_path / "e1.json"
    file.write_text(json.dumps({**config, "state": str(tmp_path), "verify_key": str(keys / "signing.pub")}))
    ended = subprocess.run([command("fogguard-agent"), "--config", file], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    assert "this device takes none that is not" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_command_signs_and_checks(fogguard_here, bundle_copy, keys, tmp_path):
    done = fogguard_here("sign", bundle_copy, "--key", keys / "signing.key", "--json", "s.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["key"] == load_public_key(keys / "signing.pub").hex()
    done = fogguard_here("check", bundle_copy, "--verify-key", keys / "signing.pub")
    assert (done.returncode, "the manifest is signed with key" in " ".join(done.stdout.split())) == (0, True)
    (bundle_copy / SIGNATURE).unlink()
    assert fogguard_here("check", bundle_copy, "--verify-key", keys / "signing.pub").returncode == 1
    for arguments, sentence in [
        (["sign", bundle_copy, "--key", keys / "ca.key"], "ca.key: not an Ed25519 key"),
        (["sign", bundle_copy, "--key", "none"], "none: cannot be read"),
        (["sign", tmp_path, "--key", keys / "signing.key"], "no bundle at"),
    ]:
        done = fogguard_here(*arguments)
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
