"""What devices tell about themselves; the texts but this machine's are composed from public documentation."""

import msgspec
import pytest
from msgspec.structs import replace

from edge_agent.host import Host
from edge_agent.proc import parse_host, read_host

PI = {
    "proc/meminfo": "MemTotal:        8245076 kB\nMemFree:         6300000 kB\nMemAvailable:    7340032 kB",
    "proc/stat": "cpu  1000 0 500 8000 400 0 100 0 0 0\ncpu0 250 0 125 2000 100 0 25 0 0 0",
    "proc/self/status": "Name:\tpython3\nVmRSS:\t   75776 kB\nThreads:\t1",
    "sys/class/thermal/thermal_zone0/temp": "61325",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1800000",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2400000",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005",
}
JETSON_RAILS = {
    "sys/class/hwmon/hwmon1/name": "ina3221",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon1/in1_input": "4984",
    "sys/class/hwmon/hwmon1/curr1_input": "1032",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV",
    "sys/class/hwmon/hwmon1/in2_input": "4976",
    "sys/class/hwmon/hwmon1/curr2_input": "400",
    "sys/class/hwmon/hwmon1/in7_label": "Sum of shunt voltages",
    "sys/class/hwmon/hwmon1/in7_input": "12",
}


def test_a_raspberry_pi_tells_heat_clock_and_throttling():
    assert parse_host(PI, 1.5, 100) == Host(
        agent_cpu_s=1.5,
        agent_mb=74.0,
        available_mb=7168.0,
        memory_mb=8245076 / 1024,
        busy_s=16.0,
        idle_s=84.0,
        temperature_c=61.325,
        clock_mhz=1800.0,
        most_mhz=2400.0,
        throttled=0x50005,
    )
    assert parse_host({"sys/devices/platform/soc/soc:firmware/get_throttled": "0x0"}, 0, 100).throttled == 0


def test_power_is_told_rail_by_rail_and_a_voltage_alone_is_none():
    assert parse_host(JETSON_RAILS, 0, 100).power_w == pytest.approx({"VDD_IN": 5.143488, "VDD_CPU_GPU_CV": 1.9904})
    metered = {"sys/class/hwmon/hwmon3/power1_input": "2750000"}
    assert parse_host(metered, 0, 100).power_w == {"hwmon3 power1": 2.75}
    supply = {**JETSON_RAILS, "sys/class/hwmon/hwmon1/name": "corsairpsu"}
    assert parse_host(supply, 0, 100).power_w == {}


@pytest.mark.parametrize("nonsense", ["", "N/A", "-1", "zz", "1e9"])
def test_a_sensor_that_tells_nonsense_tells_nothing(nonsense):
    texts = dict.fromkeys((*PI, *JETSON_RAILS), nonsense)
    known = {"proc/meminfo", "proc/stat", "proc/self/status", "sys/class/hwmon/hwmon1/name"}
    told = parse_host({path: text for path, text in texts.items() if path not in known}, 0, 100)
    assert replace(told, throttled=None) == Host(throttled=None)


def test_where_nothing_tells_there_is_silence(tmp_path):
    assert msgspec.json.decode(msgspec.json.encode(parse_host({}, 1.5, 100))) == {"agent_cpu_s": 1.5}
    assert replace(read_host(tmp_path), agent_cpu_s=0) == Host()


def test_this_machine_tells_at_least_memory_and_load():
    here = read_host()
    assert here.agent_mb < here.memory_mb
    assert here.available_mb <= here.memory_mb
    assert here.busy_s > 0
