"""Stands for a smart plug: hears `on` and `off` on a topic, and switches a lab's device. Emulated: no real plug."""

import subprocess
import sys
import time

from support import command

from broker.link import Link
from broker.url import parse_url


def tell(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main():
    url, topic, lab, device = sys.argv[1:]

    def switch(_topic, word):
        verb = {b"on": "plug", b"off": "unplug"}[word]
        subprocess.run([command("fogguard"), "lab", verb, device, "--name", lab], check=True)
        tell(verb)

    with Link(parse_url(url), "plug", subscriptions=[(topic, 1)], on_message=switch, keepalive_s=60) as link:
        link.connect()
        tell("ready")
        while True:
            link.poll(1.0)
            time.sleep(0.01)


main()
