"""Certificates that are wrong, on a real mosquitto: each is one sentence, and a device goes on trying."""

import datetime
import logging
import shutil
import signal
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager

import pytest
from secured import FLEET, free_port, link, public_folder, running
from support import ROOT

from broker.link import Link, LinkError
from broker.mosquitto import Access, render_acl, render_secure
from broker.tls import Tls, TlsError, client_context, files_of
from broker.url import BrokerUrl, parse_url
from provisioning import certificates, pki

ANYTHING = {"e1": Access(("#",), ("#",))}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls") / "pki"
    pki.init(folder, FLEET, ["e1"])
    return folder


@pytest.fixture
def keys_copy(keys, tmp_path):
    return shutil.copytree(keys, tmp_path / "pki")


@contextmanager
def broker_with(keys, started=None, folders=None):
    """mosquitto with the certificates in `keys`, where e1 may do anything."""
    with public_folder() as folder:
        if folders is not None:
            folders.append(folder)
        for name in ("ca.crt", "broker.crt", "broker.key"):
            shutil.copy(keys / name, folder / name)
        (folder / "acl").write_text(render_acl(ANYTHING))
        (folder / "mosquitto.conf").write_text(render_secure("127.0.0.1", free_port(), 10_000, folder))
        with running(folder, started) as url:
            yield url


@pytest.fixture(scope="module")
def url(keys):
    with broker_with(keys) as url:
        yield url


def renewed(keys, name, hosts=None, server=False):
    """Make the certificate of `name` anew, with the settings of now."""
    authority, authority_key = certificates.load_certificate(keys / "ca.crt"), certificates.load_key(keys / "ca.key")
    served = certificates.alternatives(hosts or ["127.0.0.1"]) if hosts or server else None
    key = certificates.load_key(keys / f"{name}.key")
    made = certificates.new_certificate(FLEET, name, key, authority, authority_key, served)
    (keys / f"{name}.crt").write_bytes(made)


def refused(url, keys, identity="e1"):
    with pytest.raises(LinkError) as error, link(url, keys, identity) as attempt:
        attempt.connect()
    assert str(error.value).startswith(str(url))
    return str(error.value)


def test_with_the_fleet_s_certificates_messages_go_both_ways(url, keys):
    heard = []
    with link(url, keys, "e1", ["t/#"], heard) as both:
        both.connect()
        assert both._client.socket().version() in ("TLSv1.2", "TLSv1.3")
        both.publish("t/x", b"hello")
        assert both.poll_until(lambda: heard, 2)
    assert heard == [("t/x", b"hello")]


def test_a_host_name_is_as_good_as_an_address(url, keys):
    with link(url._replace(host="localhost"), keys, "e1") as named:
        named.connect()


def test_an_expired_certificate_of_ours_is_one_sentence(url, keys_copy, monkeypatch):
    monkeypatch.setattr(certificates, "_LEAF_DAYS", -1)
    renewed(keys_copy, "e1")
    assert "e1.crt has expired: remove it, and run `fogguard pki init` again" in refused(url, keys_copy)


def test_a_certificate_of_another_ca_is_one_sentence(url, keys, tmp_path):
    pki.init(tmp_path / "other", FLEET, ["e1"])
    assert f"another CA than {tmp_path}/other/ca.crt" in refused(url, tmp_path / "other")
    shutil.copy(keys / "ca.crt", tmp_path / "other" / "ca.crt")  # we believe the broker, it does not believe us
    assert "does not know the CA of" in refused(url, tmp_path / "other")


def test_a_server_s_certificate_is_no_client_s_and_a_client_s_is_no_server_s(url, keys, keys_copy):
    assert "broker.crt: it is not one for clients" in refused(url, keys, "broker")
    shutil.copy(keys / "e1.crt", keys_copy / "broker.crt")
    shutil.copy(keys / "e1.key", keys_copy / "broker.key")
    with broker_with(keys_copy) as impostor:
        assert "cannot be trusted (unsuitable certificate purpose)" in refused(impostor, keys)


def test_a_broker_whose_certificate_is_for_another_host_is_one_sentence(keys, keys_copy):
    renewed(keys_copy, "broker", ["broker.elsewhere"])
    with broker_with(keys_copy) as elsewhere:
        assert "shows a certificate for another host" in refused(elsewhere, keys)
        assert "`fogguard pki init --host` names more" in refused(elsewhere._replace(host="localhost"), keys)


def test_a_broker_whose_certificate_has_expired_is_one_sentence(keys, keys_copy, monkeypatch):
    monkeypatch.setattr(certificates, "_LEAF_DAYS", -1)
    renewed(keys_copy, "broker", server=True)
    with broker_with(keys_copy) as old:
        assert "shows a certificate that has expired: renew it, or set this machine's clock" in refused(old, keys)


def test_a_certificate_from_the_future_points_at_the_clock(keys, keys_copy, monkeypatch):
    monkeypatch.setattr(certificates, "_EARLIER", datetime.timedelta(days=-1))
    renewed(keys_copy, "broker", server=True)
    with broker_with(keys_copy) as young:
        assert "not valid yet: set this machine's clock" in refused(young, keys)


@pytest.mark.parametrize(
    ("years", "sentence"),
    [
        (3, "e1.crt has expired: remove it, and run `fogguard pki init` again, or set the broker's clock"),
        (-3, "refuses {keys}/e1.crt: is it a client's, of its CA, and is the broker's clock right?"),
    ],
)
def test_a_broker_that_lives_in_another_year_points_at_its_clock(keys, tmp_path, monkeypatch, years, sentence):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler on this machine: apt-get install gcc libc6-dev")
    library, offset = tmp_path / "clock.so", f"-DCLOCK_OFFSET=({years * 365 * 86_400}L)"
    subprocess.run(["cc", "-shared", "-fPIC", offset, "-o", library, ROOT / "tests" / "clock.c"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))  # for whom we start, not for us
    with broker_with(keys) as lost:
        assert sentence.format(keys=keys) in refused(lost, keys)


def test_a_device_goes_on_trying_and_needs_no_restart_once_its_certificate_is_renewed(
    url, keys_copy, monkeypatch, caplog
):
    with monkeypatch.context() as yesterday:
        yesterday.setattr(certificates, "_LEAF_DAYS", -1)
        renewed(keys_copy, "e1")
    device = link(url, keys_copy, "e1")
    with caplog.at_level(logging.WARNING):
        assert not device.poll_until(lambda: device.is_up, 1)
    assert (
        "has expired: remove it, and run `fogguard pki init` again, or set the broker's clock; trying again"
        in caplog.text
    )
    renewed(keys_copy, "e1")
    with device:
        assert device.poll_until(lambda: device.is_up, 3)


def test_a_renewal_that_a_device_meets_half_done_is_waited_for(url, keys_copy, caplog):
    with link(url, keys_copy, "e1") as device:
        device.connect()
        was = (keys_copy / "e1.key").read_bytes()
        shutil.copy(keys_copy / "ca.key", keys_copy / "e1.key")
        device.drop()
        with caplog.at_level(logging.WARNING):
            assert not device.poll_until(lambda: "do not belong together" in caplog.text and device.is_up, 0.5)
        assert "do not belong together); trying again" in caplog.text
        (keys_copy / "e1.key").write_bytes(was)
        assert device.poll_until(lambda: device.is_up, 3)


def test_a_ca_that_was_replaced_is_believed_no_more(url, keys_copy, tmp_path, caplog):
    pki.init(tmp_path / "other", FLEET, ["e1"])
    with link(url, keys_copy, "e1") as device:
        device.connect()
        shutil.copy(tmp_path / "other" / "ca.crt", keys_copy / "ca.crt")
        device.drop()
        with caplog.at_level(logging.WARNING):
            assert not device.poll_until(lambda: not device.is_up and "another CA" in caplog.text, 0.0)
            assert device.poll_until(lambda: "shows a certificate of another CA than" in caplog.text, 2)


def test_a_hangup_gives_the_broker_its_renewed_certificate_and_shuts_out_who_left_its_rules(keys, keys_copy):
    started, folders, heard = [], [], []
    with broker_with(keys_copy, started, folders) as url, link(url, keys, "e1", ["t"], heard) as stolen:
        stolen.connect()
        stolen.publish("t", b"before")
        assert stolen.poll_until(lambda: heard, 2)
        renewed(keys_copy, "broker", ["elsewhere"])
        (folders[0] / "broker.crt").write_bytes((keys_copy / "broker.crt").read_bytes())
        (folders[0] / "acl").write_text("")
        started[0].send_signal(signal.SIGHUP)
        time.sleep(0.5)
        stolen.publish("t", b"after")
        stolen.poll_until(lambda: len(heard) > 1, 1)
        assert heard == [("t", b"before")]
        assert "for another host" in refused(url, keys)


def test_a_broker_that_speaks_no_tls_is_one_sentence(keys, broker):
    tls = files_of(keys, "e1")
    with pytest.raises(LinkError, match="does not speak TLS"):
        Link(broker._replace(secure=True), "hopeful", tls=tls).connect()


def test_certificates_without_tls_are_one_sentence(keys):
    with pytest.raises(TlsError, match="certificates are for TLS: write mqtts:// instead of mqtt://h:1"):
        Link(parse_url("mqtt://h:1"), "x", tls=files_of(keys, "e1"))
    with pytest.raises(TlsError, match="write mqtts:// instead of mqtt://h:1"):
        Link(parse_url("mqtts://g:1"), "x", others=[parse_url("mqtt://h:1")], tls=files_of(keys, "e1"))
    with pytest.raises(TlsError, match="one link speaks to mqtts://g:1 and mqtt://h:1"):
        Link(parse_url("mqtts://g:1"), "x", others=[parse_url("mqtt://h:1")])


def test_the_next_broker_of_a_list_is_shown_the_same_certificate(url, keys):
    gone = url._replace(port=free_port())
    with Link(gone, "test-e1", others=[url], tls=files_of(keys, "e1")) as device:
        device.connect()
        assert device.url == url


def test_a_broker_that_is_silent_in_the_handshake_is_soon_left_for_the_next(url, keys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = BrokerUrl("127.0.0.1", server.getsockname()[1], secure=True)
        began = time.monotonic()
        with Link(silent, "test-e1", others=[url], keepalive_s=30, tls=files_of(keys, "e1")) as device:
            device.connect()
            assert device.url == url
        assert time.monotonic() - began < 5


def test_files_that_are_missing_or_do_not_fit_are_one_sentence(url, keys, tmp_path):
    with pytest.raises(TlsError, match=r"holds no f9\.crt: make it with `fogguard pki init"):
        files_of(keys, "f9")
    good = files_of(keys, "e1")
    encrypted = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", good.key, "-aes256", "-passout", "pass:secret", "-out", encrypted],
        check=True,
        capture_output=True,
    )
    for changed, sentence in (
        ({"ca": "no.crt"}, "no.crt: cannot be read as a CA's certificate .No such file"),
        ({"ca": good.key}, "cannot be read as a CA's certificate"),
        ({"key": str(keys / "ca.key")}, "they do not belong together"),
        ({"key": "no.key"}, "No such file"),
        ({"certificate": good.key}, "cannot be used"),
        ({"key": str(encrypted)}, "cannot be used"),
    ):
        files = {"ca": good.ca, "certificate": good.certificate, "key": good.key, **changed}
        with pytest.raises(TlsError, match=sentence):
            Link(url, "x", tls=Tls(**files)).connect()


def test_old_tls_is_not_spoken():
    context = client_context(None, 1)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_peer_that_is_silent_in_the_handshake_does_not_hold_a_device_for_ever(keys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = BrokerUrl("127.0.0.1", server.getsockname()[1], secure=True)
        with pytest.raises(LinkError, match=r"no broker answers at mqtts://.*timed out"):
            link(silent, keys, "e1").connect()


def test_the_strictest_verification_finds_no_fault(url, keys):
    """Python 3.13 asks for it by default."""
    context = client_context(files_of(keys, "e1"), 1)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_connection((url.host, url.port)) as plain:
        context.wrap_socket(plain, server_hostname=url.host).close()


def test_mqtts_has_its_own_port():
    assert parse_url("mqtts://cloud.local") == BrokerUrl("cloud.local", 8883, secure=True)
    assert str(parse_url("mqtts://[::1]:1")) == "mqtts://[::1]:1"
