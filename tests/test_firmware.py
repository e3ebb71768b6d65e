"""The firmware of a Raspberry Pi, spoken to by a real program called vcgencmd that stands for its own."""

import pytest

from broker.embedded import running_broker
from broker.link import Link
from broker.message import Request
from broker.topics import Topics
from edge_agent.commands import decode_reply, encode_ask
from edge_agent.firmware import ask_firmware, pmic_w
from edge_agent.proc import read_host
from provisioning.asking import NoReply, find
from provisioning.local import LocalFleet

# Printed by a Raspberry Pi 5 Model B Rev 1.0 with four busy cores: github.com/ml-energy/zeus, the tests of its pull
# request 274.
PMIC = """\
 3V7_WL_SW_A current(0)=0.09368929A
   3V3_SYS_A current(1)=0.08783370A
   1V8_SYS_A current(2)=0.18054710A
  DDR_VDD2_A current(3)=0.22543980A
  DDR_VDDQ_A current(4)=0.06666720A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.37670900A
  VDD_CORE_A current(7)=6.22421000A
   3V3_DAC_A current(17)=0.00006105A
   3V3_ADC_A current(18)=0.00036630A
   0V8_AON_A current(16)=0.00305250A
      HDMI_A current(22)=0.02417580A
 3V7_WL_SW_V volt(8)=3.69977600V
   3V3_SYS_V volt(9)=3.31003300V
   1V8_SYS_V volt(10)=1.80512600V
  DDR_VDD2_V volt(11)=1.10476100V
  DDR_VDDQ_V volt(12)=0.60146460V
   1V1_SYS_V volt(13)=1.11025500V
    0V8_SW_V volt(14)=0.80146440V
  VDD_CORE_V volt(15)=0.86173300V
   3V3_DAC_V volt(20)=3.31318300V
   3V3_ADC_V volt(21)=3.30677300V
   0V8_AON_V volt(19)=0.80029220V
      HDMI_V volt(23)=5.08664000V
     EXT5V_V volt(24)=5.09066000V
      BATT_V volt(25)=0.00000000V
"""
UNKNOWN = 'error=1 error_msg="Command not registered"'


@pytest.fixture
def vcgencmd(tmp_path, monkeypatch):
    """Put a program of that name on PATH, whose lines of shell answer `$1`."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def write(lines):
        program = tmp_path / "vcgencmd"
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)

    return write


def of_a_pi_5(pmic=PMIC):
    return f"case $1 in get_throttled) echo throttled=0x50005;; pmic_read_adc) cat <<'END'\n{pmic}\nEND\n;; esac"


def test_the_power_of_a_board_is_that_of_each_rail_with_a_current_and_a_voltage():
    assert pmic_w(PMIC) == pytest.approx(7.2398, abs=1e-3)
    assert pmic_w("VDD_CORE_A current(7)=2.00000000A\nVDD_CORE_V volt(15)=0.75000000V") == 1.5
    alone = ("EXT5V_V volt(24)=5.09066000V", "VDD_CORE_A current(7)=2.00000000A")
    for nothing in ("", UNKNOWN, *alone, "VDD_CORE_A current(7)=xA\nVDD_CORE_V volt(15)=0.75000000V"):
        assert pmic_w(nothing) is None


def test_a_pi_5_tells_its_power_and_its_throttling_through_its_firmware(vcgencmd):
    vcgencmd(of_a_pi_5())
    host = read_host()
    assert host.power_w["PMIC"] == pytest.approx(7.2398, abs=1e-4)
    assert host.throttled == 0x50005


def test_an_older_pi_has_no_power_to_tell(vcgencmd):
    vcgencmd(of_a_pi_5(UNKNOWN))
    host = read_host()
    assert "PMIC" not in host.power_w
    assert host.throttled == 0x50005


def test_a_firmware_that_hangs_tells_nothing_and_everything_else_is_told(vcgencmd):
    vcgencmd("exec sleep 60")
    host = read_host()
    assert "PMIC" not in host.power_w
    assert host.agent_mb > 0


def test_a_program_that_cannot_be_run_tells_nothing(vcgencmd, tmp_path):
    vcgencmd("")
    (tmp_path / "vcgencmd").write_text("no program")
    assert set(ask_firmware().values()) == {""}


def test_an_agent_goes_on_while_its_firmware_takes_its_time(vcgencmd, bundle, tmp_path):
    vcgencmd("exec sleep 60")
    topics, replies = Topics("slow"), []

    def on_reply(reply):
        replies.append(decode_reply(reply.payload))

    with running_broker() as url, LocalFleet(bundle, [url], "slow", tmp_path) as agents:
        agents.start(["f1"])
        with Link(url, "asking", requests=(topics.reply("+"), on_reply)) as link:
            link.connect()
            assert link.poll_until(lambda: "f1" in found(url), 60)
            for command in ("host", "host", "ping"):
                link.request(topics.cmd("f1"), Request(encode_ask(command), topics.reply("f1"), command.encode()))
            assert link.poll_until(lambda: len(replies) == 3, 60)
    assert [reply.command for reply in replies] == ["ping", "host", "host"]
    assert replies[1].host.agent_mb > 0


def found(url):
    """Who is online."""
    try:
        return find([url], "slow", None)
    except NoReply:
        return {}
