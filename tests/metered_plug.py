"""Stands for smart plugs of each kind: says what they say when asked, and prints how it is switched. No real plug.

python tests/metered_plug.py URL TOPIC…     each TOPIC is where one is switched
"""

import sys
import time
from functools import partial

from broker.link import Link
from broker.url import parse_url

# As real plugs have printed it, by what others have published; Zigbee2MQTT's is put together from its documentation.
TASMOTA = (
    '{"StatusSNS":{"Time":"2022-12-30T14:24:20","ENERGY":{"TotalStartTime":"2020-04-25T06:22:31","Total":263.033,'
    '"Yesterday":0.091,"Today":0.166,"Power":4,"ApparentPower":48,"ReactivePower":47,"Factor":0.08,"Voltage":235,'
    '"Current":0.202}}}'
)
SHELLY = (
    '{"id":0, "source":"WS_in", "output":true, "apower":4.1, "voltage":242.5, "current":0.033, '
    '"aenergy":{"total":18.015},"temperature":{"tC":30.3, "tF":86.5}}'
)
ZIGBEE = '{"current":0.03,"energy":1.17,"linkquality":112,"power":4.6,"state":"ON","voltage":231}'
# By how the topic ends that switches a plug: where it is asked, by what word, where it answers, and what.
KINDS = {
    "/POWER": ("/STATUS", b"10", lambda plug: plug.replace("cmnd", "stat") + "/STATUS10", TASMOTA),
    "/relay/0/command": ("/command", b"update", lambda plug: f"{plug}/relay/0/power", "34.2"),
    "/command/switch:0": ("/command", b"status_update", lambda plug: f"{plug}/status/switch:0", SHELLY),
    "/set": ("/get", b'{"power": ""}', lambda plug: plug, ZIGBEE),
}


def tell(words):
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main():
    url, *switches = sys.argv[1:]
    plugs = {}
    for switch in switches:
        tail, (asked, word, answered, answer) = next((k, v) for k, v in KINDS.items() if switch.endswith(k))
        plug = switch.removesuffix(tail)
        plugs[plug + asked] = (word, answered(plug), answer)

    def on_message(link, topic, payload):
        if topic in switches:
            tell(f"{topic} {payload.decode()}")
        elif payload == plugs[topic][0]:
            link[0].publish(plugs[topic][1], plugs[topic][2].encode())

    link = []
    topics = [(topic, 1) for topic in (*switches, *plugs)]
    with Link(
        parse_url(url), "plugs", subscriptions=topics, on_message=partial(on_message, link), keepalive_s=60
    ) as it:
        link.append(it)
        it.connect()
        tell("ready")
        while True:
            it.poll(1.0)
            time.sleep(0.01)


main()
