"""The command line of provisioning without devices: what is written, and the sentence for what is wrong."""

import json
import socketserver
import threading

import pytest
from sshd import running_sshd

DEVICES = [f"--device={node}=pi@127.0.0.1:{port}" for node, port in (("e1", 9), ("f2", 10), ("f1", 11), ("cloud", 12))]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("init f.toml --bundle nowhere", "no bundle at nowhere"),
        ("init f.toml --bundle BUNDLE", "no device for e1, f2, f1, cloud: --device e1=USER@HOST"),
        ("init f.toml --bundle BUNDLE --device e1", "--device 'e1': write NODE=USER@HOST"),
        ("init f.toml --bundle BUNDLE DEVICES --device e1=10.0.0.1", "--device e1 '10.0.0.1': write USER@HOST"),
        ("init f.toml --bundle BUNDLE DEVICES --broker sky", "broker.device is 'sky'"),
        ("init there.toml --bundle BUNDLE DEVICES", "there.toml is there already"),
        ("enrol none.toml", "none.toml: cannot be read (No such file or directory): `fogguard provision init`"),
        ("doctor there.toml --without f1", "there.toml: Object missing required field"),
        ("apply none.toml BUNDLE", "none.toml: cannot be read"),
        ("apply none.toml BUNDLE --wheel f1", "--wheel 'f1': write DEVICE=FILE"),
        ("status none.toml", "none.toml: cannot be read"),
        ("rollback none.toml --json nowhere/x.json", "--json nowhere/x.json: cannot be written there"),
        ("wheels --target 3.9-mips", "--target '3.9-mips': write PYTHON-ARCH"),
        ("wheels", "Missing option '--target'"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(fogguard, tmp_path, bundle, arguments, sentence):
    (tmp_path / "there.toml").write_text('fleet = "house"\n')
    words = arguments.replace("BUNDLE", str(bundle.path)).replace("DEVICES", " ".join(DEVICES)).split()
    done = fogguard("provision", *words)
    assert done.returncode == 2, done.stderr
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]


def test_devices_that_do_not_answer_are_one_sentence_each_and_exit_code_1(fogguard, tmp_path, bundle):
    assert fogguard("provision", "init", "f.toml", "--bundle", bundle.path, *DEVICES).returncode == 0
    for verb, words in (("doctor", ()), ("plan", (bundle.path,)), ("apply", (bundle.path,)), ("status", ())):
        done = fogguard("provision", verb, "f.toml", *words, "--json", "r.json")
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        result = json.loads((tmp_path / "r.json").read_text())
        assert result["command"].startswith(f"fogguard provision {verb}")
        for device in result["devices"].values():
            assert not device["ok"]
            assert device["reason"].startswith("nothing answers on SSH at 127.0.0.1 port")
    done = fogguard("provision", "rollback", "f.toml")
    assert done.returncode == 1
    assert "every device must answer" in done.stderr
    done = fogguard("provision", "enrol", "f.toml", "--yes")
    assert done.returncode == 1
    assert "e1, f2, f1, cloud not enrolled" in done.stderr
    assert not (tmp_path / "known_hosts").exists()


class Web(socketserver.BaseRequestHandler):
    """What listens on a port where somebody expects SSH."""

    def handle(self):
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_who_answers_but_speaks_no_ssh_is_one_sentence(fogguard, tmp_path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Web) as web:
        threading.Thread(target=web.serve_forever, name="web", daemon=True).start()
        device = f'[devices.e1]\naddress = "127.0.0.1"\nport = {web.server_address[1]}\nuser = "pi"\nnode = "e1"\n'
        (tmp_path / "f.toml").write_text(f'fleet = "house"\n[broker]\ndevice = "e1"\nport = 1883\n{device}')
        for verb in (["enrol", "--yes"], ["doctor"]):
            done = fogguard("provision", verb[0], "f.toml", *verb[1:])
            assert (done.returncode, "does not speak SSH as it should" in done.stderr) == (1, True), done.stderr
            assert "Traceback" not in done.stderr
        web.shutdown()


@pytest.mark.parametrize(
    ("pinned", "sentence"),
    [
        (b"# mine\n10.0.0.7 ssh-ed25519 AAAAC3NzaC1lZDI1\n", "known_hosts: line 2 is no host key: remove it, and"),
        (b"# K\xfcche\n", "known_hosts: cannot be read (not UTF-8)"),
    ],
)
def test_host_keys_that_somebody_damaged_are_one_sentence_and_exit_code_2(fogguard_here, tmp_path, pinned, sentence):
    device = '[devices.e1]\naddress = "127.0.0.1"\nport = 9\nuser = "pi"\nnode = "e1"\n'
    (tmp_path / "f.toml").write_text(f'fleet = "house"\n[broker]\ndevice = "e1"\nport = 1883\n{device}')
    (tmp_path / "known_hosts").write_bytes(pinned)
    for verb in ("enrol", "doctor", "status", "rollback"):
        done = fogguard_here("provision", verb, "f.toml")
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
    assert (tmp_path / "known_hosts").read_bytes() == pinned


def test_host_keys_are_pinned_only_when_somebody_says_so(fogguard, tmp_path, bundle):
    with running_sshd(tmp_path) as device:
        dead = [word for word in DEVICES if "e1=" not in word]
        here = f"--device=e1={device.user}@127.0.0.1:{device.port}"
        fogguard("provision", "init", "f.toml", "--bundle", bundle.path, here, *dead, "--key", "id")
        refused = fogguard("provision", "enrol", "f.toml")
        assert refused.returncode == 2
        assert "nobody is here to compare keys" in refused.stderr
        assert not (tmp_path / "known_hosts").exists()
        assert fogguard("provision", "enrol", "f.toml", "--yes").returncode == 1  # the others do not answer
        assert f"[127.0.0.1]:{device.port} ssh-ed25519" in (tmp_path / "known_hosts").read_text()
        done = fogguard("provision", "doctor", "f.toml", "--json", "d.json")
        findings = json.loads((tmp_path / "d.json").read_text())["findings"]
        assert done.returncode == 1
        assert {each["what"] for each in findings["e1"]} >= {"arch", "system", "python", "disk", "clock"}
