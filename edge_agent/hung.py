"""The word that a node hung, left in its place by what systemd runs when its watchdog has ended it."""

from contextlib import suppress
from typing import Final

from broker.epoch import is_later
from broker.link import Link, LinkError, LinkLost
from broker.presence import Status, StatusError, decode_status, encode_status
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.agent import client_id, epoch_file
from edge_agent.config import Config, brokers_of
from edge_agent.epoch import last_epoch

_TAKES_S: Final = 1.0
_REMEMBERS_S: Final = 0.2


def report_hung(config: Config) -> None:
    """Publish, in place of the agent that its watchdog has ended, that it hung: its last will cannot know.

    At every broker of its list that answers, for the fleet may be at any. Raises EpochError, TlsError, or LinkError or
    LinkLost if none takes it.
    """
    epoch = last_epoch(epoch_file(config))
    failures = [_leave_word(config, url, epoch) for url in brokers_of(config)]
    if failures[0] is not None and None not in failures:
        raise failures[0]


def _leave_word(config: Config, url: BrokerUrl, epoch: int) -> LinkError | LinkLost | None:
    """Publish that a node hung in `epoch`, or in the later one that the broker knows: the disk may not have kept it.

    Returns why the broker did not take it, None if it did.
    """
    topic, known = Topics(config.fleet).status(config.node), [epoch]

    def on_status(_topic: str, payload: bytes) -> None:
        with suppress(StatusError):
            known.append(decode_status(payload).epoch)

    try:
        with Link(url, client_id(config), subscriptions=[(topic, 1)], on_message=on_status, tls=config.tls) as link:
            link.connect()
            link.poll_until(lambda: len(known) > 1, _REMEMBERS_S)
            last = known[-1] if is_later(known[-1], epoch) else epoch
            status = encode_status(Status(online=False, epoch=last, reason="hung"))
            is_taken = link.publish_confirmed(topic, status, retain=True, timeout_s=_TAKES_S)
    except (LinkError, LinkLost) as error:
        return error
    return None if is_taken else LinkError(f"{url} did not confirm that {config.node} hung")
