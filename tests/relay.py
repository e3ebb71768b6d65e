"""A link that can be cut, and that may change what it carries: TCP passed on to a broker until told to hold it back."""

import contextlib
import selectors
import socket
import threading
import time
from contextlib import contextmanager

from broker.url import BrokerUrl


class Relay:
    """Listens at `url`; while `is_held`, nothing passes and every connection stays, as with a pulled cable.

    `up` and `down` are what becomes of each piece on its way to and from the broker.
    """

    def __init__(self, target, up, down):
        self._up, self._down = up, down
        self.is_held = False
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = BrokerUrl("127.0.0.1", self._server.getsockname()[1])
        self._is_over = False
        self._thread = threading.Thread(target=self._pass_on, daemon=True)

    def _pass_on(self):
        with selectors.DefaultSelector() as ready:
            ready.register(self._server, selectors.EVENT_READ, None)
            while not self._is_over:
                if self.is_held:
                    time.sleep(0.005)
                    continue
                for key, _ in ready.select(0.02):
                    if key.fileobj.fileno() >= 0:  # not closed just now, with its other end
                        self._step(ready, key)
            for key in list(ready.get_map().values()):
                key.fileobj.close()

    def _step(self, ready, key):
        if key.data is None:
            near, _ = self._server.accept()
            try:
                far = socket.create_connection((self._target.host, self._target.port))
            except OSError:
                near.close()
                return
            for one, other, change in ((near, far, self._up), (far, near, self._down)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(one, selectors.EVENT_READ, (other, change))
            return
        other, change = key.data
        data = b""
        with contextlib.suppress(OSError):
            data = key.fileobj.recv(1 << 16)
        if data:
            with contextlib.suppress(OSError):
                other.sendall(change(data))
            return
        for each in (key.fileobj, other):
            with contextlib.suppress(KeyError):
                ready.unregister(each)
            each.close()


@contextmanager
def relay(target, up=bytes, down=bytes):
    passes = Relay(target, up, down)
    passes._thread.start()
    try:
        yield passes
    finally:
        passes._is_over = True
        passes._thread.join()
