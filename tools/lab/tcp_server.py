"""TCP servers of a pod's in the hands of this process."""

import socket
import threading
from collections.abc import Callable


class Acceptor:
    """Hands every connection of a listener, and the peer's address, to `take`, until it is closed."""

    def __init__(self, listener: socket.socket, take: Callable[[socket.socket, tuple], None]):
        self.listener, self._take = listener, take
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, peer = self.listener.accept()
            except OSError:
                return
            self._take(accepted, peer)

    def close(self) -> None:
        """The listener; connections go on."""
        self.listener.shutdown(socket.SHUT_RDWR)  # a thread in accept() would keep it alive
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class TcpServer(Acceptor):
    """`serve(accepted)` runs in a thread of its own for each connection, which is closed then; it is no error that the peer
    has left before."""

    def __init__(self, listener: socket.socket, serve: Callable[[socket.socket], None]):
        self._serve = serve
        super().__init__(listener, lambda accepted, _: threading.Thread(target=self._run, args=(accepted,), daemon=True).start())

    def _run(self, accepted: socket.socket) -> None:
        with accepted:
            try:
                self._serve(accepted)
            except OSError:
                return


def echo(accepted: socket.socket) -> None:
    """Sends back what comes."""
    while data := accepted.recv(65536):
        accepted.sendall(data)
