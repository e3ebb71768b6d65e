"""The client that reads ahead: whatever the cuts in the stream, it hands on what paho alone would."""

import select
import socket
import struct
import threading

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from broker.client import Client

CONNACK = bytes([0x20, 3, 0, 0, 0])
WAIT_S = 5


def varint(number):
    digits = bytearray()
    while True:
        number, digit = divmod(number, 128)
        digits.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(digits)


def publish(topic, payload, *, qos=0, retain=False, properties=b""):
    body = struct.pack("!H", len(topic)) + topic + (b"\x00\x01" if qos else b"")
    body += varint(len(properties)) + properties + payload
    return bytes([0x30 | qos << 1 | retain]) + varint(len(body)) + body


packets = st.builds(
    publish,
    st.sampled_from([b"a", b"fog/house/e1/tensor", "größe".encode()]),
    st.one_of(st.binary(max_size=300), st.integers(0, 70_000).map(bytes)),
    qos=st.sampled_from([0, 0, 0, 1]),
    retain=st.booleans(),
    properties=st.sampled_from([b"", b"", b"\x01\x01", b"\x08\x00\x01r\x09\x00\x02id"]),
)


def heard(kind, chunks):
    """What a client of this kind hands on from a stream that comes in these chunks, and which of it was plain."""
    server = socket.create_server(("127.0.0.1", 0))
    sent = threading.Event()

    def serve():
        connection, _ = server.accept()
        with connection:
            connection.recv(1 << 16)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for chunk in (CONNACK, *chunks):
                connection.sendall(chunk)
            sent.wait(WAIT_S)

    thread = threading.Thread(target=serve)
    thread.start()
    messages, plain = [], []
    client = kind(CallbackAPIVersion.VERSION2, client_id="x", protocol=mqtt.MQTTv5)
    client.reach = lambda host, port: socket.create_connection((host, port))
    client.on_message = lambda _c, _u, message: messages.append((message.topic, bytes(message.payload)))
    client.on_plain = lambda topic, payload: (messages.append((topic, payload)), plain.append(topic))
    try:
        client.connect(*server.getsockname(), clean_start=True)
        while getattr(client, "has_read_ahead", False) or select.select([client.socket()], [], [], 0.05)[0]:
            client.loop_read()
            assert client.socket() is not None
    finally:
        sent.set()
        client.disconnect()
        thread.join(WAIT_S)
        server.close()
    return messages, plain


@settings(max_examples=40)
@given(st.lists(packets, min_size=1, max_size=12), st.data())
def test_what_is_handed_on_does_not_depend_on_who_reads_nor_on_the_cuts(stream, data):
    whole = b"".join(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    expected, none = heard(mqtt.Client, chunks)
    messages, _ = heard(Client, chunks)
    assert messages == expected
    assert len(messages) == len(stream)
    assert none == []


def test_plain_messages_go_the_short_way_and_others_do_not():
    stream = [publish(b"t", b"1"), publish(b"u", b"2", retain=True), publish(b"v", b"3", qos=1), publish(b"w", b"")]
    messages, plain = heard(Client, [b"".join(stream)])
    assert messages == [("t", b"1"), ("u", b"2"), ("v", b"3"), ("w", b"")]
    assert plain == ["t", "w"]


@pytest.mark.parametrize(
    "broken", [b"\x30\x05\x00\xffab\x00", b"\x30\x00", b"\x30\xff\xff\xff\xff\x7f", b"\x30\x02\x00\x00"]
)
def test_what_is_no_packet_is_left_to_paho(broken):
    client = Client(CallbackAPIVersion.VERSION2, client_id="x", protocol=mqtt.MQTTv5)
    client.on_plain = lambda *_: pytest.fail("handed on")
    client._ahead = broken
    assert client._take_plain() is False
    assert client.has_read_ahead
