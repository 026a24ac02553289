"""A network between a client and a server that can be cut: nothing is refused, nothing arrives."""

import selectors
import socket
import threading


class Network:
    """Forwards every connection to a port on this machine, until `cut`; what is sent meanwhile is lost."""

    def __init__(self, port: int) -> None:
        self._port, self.cut, self._ended = port, False, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _work(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.02):
                if key.data is None:
                    self._join(self._listener.accept()[0])
                else:
                    self._pass_on(key.fileobj, key.data)

    def _join(self, near: socket.socket) -> None:
        far = socket.create_connection(("127.0.0.1", self._port))
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(one, selectors.EVENT_READ, other)

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        try:
            received = one.recv(65536)
            if received and not self.cut:
                other.sendall(received)
        except OSError:
            received = b""
        if not received:
            for end in (one, other):
                self._selector.unregister(end)
                end.close()
