"""What may stand before API servers: a load balancer that passes connections on, and a front that speaks HTTP/2."""

import socket
import subprocess
import threading
from pathlib import Path

from lab import processes


class Balancer:
    """Passes TCP connections on within a network namespace, and keeps those that it is told to hang open without passing
    on one byte more, as when the server behind is stuck. Use as a context manager."""

    def __init__(self, netns: str, target: int):
        self.netns, self.target = netns, target
        self._changed = threading.Lock()
        self._open: list[socket.socket] = []  # clients' ends
        self._hung: set[socket.socket] = set()
        self.taken = 0  # connections
        self.left_by_client = 0  # ... that the client ended, hung ones among them
        self._listener = processes.open_socket(netns)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Balancer":
        return self

    def __exit__(self, *_) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self.open():
            shut(end)

    def open(self) -> list[socket.socket]:
        with self._changed:
            return list(self._open)

    def hang(self) -> int:
        """All that is open now; new ones are passed on. Returns how many."""
        with self._changed:
            self._hung |= set(self._open)
            return len(self._hung)

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = processes.open_socket(self.netns)
            try:
                server.connect(("127.0.0.1", self.target))
            except OSError:  # nobody is behind it yet
                shut(client)
                server.close()
                continue
            with self._changed:
                self._open.append(client)
                self.taken += 1
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(client, source, sink), daemon=True).start()

    def _pump(self, client: socket.socket, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if client not in self._hung:
                    sink.sendall(data)
        except OSError:
            pass
        with self._changed:
            if client in self._open and source is client:
                self.left_by_client += 1
            if client in self._hung and source is not client:
                return  # the client is not told
            if client in self._open:
                self._open.remove(client)
        shut(source)
        shut(sink)


def shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # gone already


def http2_front(lab, port: int, certificate: tuple[Path, Path], target: int) -> subprocess.Popen:
    """HAProxy: TLS and HTTP/2 for a server that has neither."""
    pem, config = lab.folder / "front.pem", lab.folder / "front.cfg"
    pem.write_text("".join(path.read_text() for path in certificate))
    config.write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n option http-no-delay\n"
        f"frontend front\n bind 127.0.0.1:{port} ssl crt {pem} alpn h2,http/1.1\n default_backend api\n"
        f"backend api\n server api 127.0.0.1:{target}\n"
    )
    return processes.spawn(["haproxy", "-db", "-f", str(config)], lab.netns, log=lab.folder / "logs" / "front.log")
