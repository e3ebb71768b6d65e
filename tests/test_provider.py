"""Execution providers: the one that is asked for computes, or a sentence says why not; real ones of real wheels."""

import os
import subprocess
import sys
import time

import msgspec
import pytest
from support import ROOT

from broker.errors import FogError
from edge_agent.config import Config, load_config
from edge_agent.loading import load_session
from edge_agent.provider import Provider, provider_of
from edge_agent.selftest import self_test
from edge_agent.session import SessionError
from provisioning.counting import counting
from provisioning.inventory import InventoryError, load_inventory
from provisioning.units import agent_files, unit_file

AZURE = "AzureExecutionProvider"  # is in onnxruntime's own wheel beside the CPU's, and takes no node of a graph


def config(bundle, folder, provider):
    return Config(
        node="f1",
        bundle=str(bundle.path),
        broker="mqtt://127.0.0.1:1",
        fleet="test",
        state=str(folder / "state"),
        provider=provider,
    )


def test_a_provider_that_this_onnxruntime_has_not_is_refused_with_those_it_has(bundle, tmp_path):
    told = "has no CUDAExecutionProvider here: it has .*CPUExecutionProvider; give the device a `wheel` that has it"
    with pytest.raises(SessionError, match=told):
        self_test(config(bundle, tmp_path, "cuda"))


def test_the_cpu_takes_its_place_only_if_that_is_allowed(bundle, tmp_path, caplog):
    words = self_test(config(bundle, tmp_path, Provider(name="cuda", fallback="cpu")))
    assert "golden rows within" in words
    assert ", CPUExecutionProvider, " in words
    assert "has no CUDAExecutionProvider" in caplog.text
    assert "the CPU computes in its place" in caplog.text


def test_the_setting_reaches_the_session_and_nodes_that_it_leaves_to_the_cpu_need_leave(bundle):
    session = load_session(bundle, "f1", provider=Provider(name=AZURE, fallback="cpu"))
    assert session.provider == AZURE
    with pytest.raises(SessionError, match=f"cannot load it for {AZURE} .*assigned to the default CPU EP"):
        load_session(bundle, "f1", provider=Provider(name=AZURE))


def test_a_provider_that_nobody_knows_is_a_sentence(bundle, tmp_path):
    file = tmp_path / "f1.json"
    file.write_bytes(msgspec.json.encode(config(bundle, tmp_path, Provider(name="warp"))))
    with pytest.raises(FogError, match="there is no provider 'warp': write cpu, cuda, tensorrt, openvino, or"):
        load_config(file)


def test_tensorrt_keeps_its_engine_where_the_agent_finds_it_and_has_one_shape(tmp_path):
    provider = Provider(name="tensorrt", options={"trt_fp16_enable": True})
    chosen = provider.chosen(tmp_path, {"f2": (1, 250), "e1": (1, 250)})
    assert [name for name, _ in chosen] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert chosen[0][1] == {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(tmp_path),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(tmp_path),
        "trt_profile_min_shapes": "f2:1x250,e1:1x250",
        "trt_profile_opt_shapes": "f2:1x250,e1:1x250",
        "trt_profile_max_shapes": "f2:1x250,e1:1x250",
        "trt_fp16_enable": True,
    }


INVENTORY = """
fleet = "house"
[broker]
device = "f1"
port = 1883
[devices.f1]
address = "10.0.0.1"
user = "pi"
node = "f1"
"""


def test_a_device_says_it_by_a_name_or_with_options_and_its_service_gets_the_rights_for_it(tmp_path):
    file = tmp_path / "fleet.toml"
    file.write_text(INVENTORY)
    assert load_inventory(file).provider_of("f1").is_cpu
    plain = agent_files(load_inventory(file), "f1")[unit_file("fogguard-agent")].decode()
    assert "PrivateDevices=no" not in plain
    assert "MemoryDenyWriteExecute=no" not in plain
    file.write_text(INVENTORY + 'provider = "cuda"\ngroups = ["video", "render"]\n')
    inventory = load_inventory(file)
    assert inventory.provider_of("f1") == provider_of("cuda")
    unit = agent_files(inventory, "f1")[unit_file("fogguard-agent")].decode()
    assert "SupplementaryGroups=video render\n" in unit
    assert "MemoryDenyWriteExecute=no" in unit
    file.write_text(INVENTORY + 'provider = { name = "tensorrt", options = { trt_fp16_enable = true } }\n')
    assert load_inventory(file).provider_of("f1").options == {"trt_fp16_enable": True}
    for wrong in ('provider = "gpu"', 'provider = { name = "cuda", fallback = "gpu" }', 'groups = ["a b"]'):
        file.write_text(INVENTORY + wrong)
        with pytest.raises((FogError, InventoryError)):
            load_inventory(file)


def test_what_takes_its_time_is_said_with_its_seconds(monkeypatch):
    monkeypatch.setattr("provisioning.counting._EVERY_S", 0.05)
    said = []
    with counting(said.append) as hear:
        hear("building the engine\n")
        until = time.monotonic() + 10
        while "building the engine, 0 s" not in said:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert said[0] == "building the engine"


@pytest.fixture(scope="module")
def openvino(tmp_path_factory):
    """A wheel of onnxruntime that has another provider, unpacked."""
    folder = tmp_path_factory.mktemp("openvino")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([*pip, "--target", folder, "onnxruntime-openvino==1.24.1"], check=True)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="onnxruntime-openvino has wheels for x86-64 alone")
def test_a_provider_that_compiles_says_so_once_before_it_serves(openvino, bundle, tmp_path):
    file = tmp_path / "f1.json"
    file.write_bytes(msgspec.json.encode(config(bundle, tmp_path, "openvino")))

    def tested():
        words = [sys.executable, "-m", "edge_agent.command", "--config", str(file), "--self-test"]
        there = {**os.environ, "PYTHONPATH": f"{openvino}:{ROOT}"}
        done = subprocess.run(words, env=there, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    first, second = tested(), tested()
    assert first[0] == "building the engine"
    assert ", OpenVINOExecutionProvider, " in first[-1]
    assert "limit 1e-02" in first[-1]
    assert second == first[1:]
    assert list((tmp_path / "state" / "engines").glob("*/*"))
