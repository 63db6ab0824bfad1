"""The proxies: how each is started, where it listens, and where it sends to.

All stand in the same place. weir accepts on the loopback of the client's pod and dials the backends across one
veth pair more; so each peer gets a listener on the loopback of every client's pod (opened there and handed over,
or, for Envoy, named by its namespace) and dials the backends from a pod of its own, the same way long. What is
left is to the peers' advantage: their pools are shared by all pods, weir's are each pod's own.
"""

import shutil
from pathlib import Path

from lab import processes

FIRST_PORT = 15100
UNLIMITED = 1_000_000_000


class Missing(Exception):
    """The proxy can't be had on this machine; the message says how to get it."""


class Proxy:
    """One proxy under measurement. `load` are arguments for rpc_load that go with it."""

    name: str
    load: tuple = ()
    own_memory = False  # its memory per connection and stream is worth a row

    def __init__(self, bed):
        self.bed = bed
        self.pid = None

    @staticmethod
    def available() -> None:
        """Raises Missing."""

    def start(self) -> None:
        """Returns when the proxy takes calls."""

    def stop(self) -> None:
        """Returns when the process is gone."""

    def target(self, number: int) -> str:
        """Where client pod `number` sends its calls: ADDRESS:PORT."""
        raise NotImplementedError


class Direct(Proxy):
    """No proxy: every pod has one backend."""

    name = "direct"

    def target(self, number):
        return self.bed.backend_address(number % len(self.bed.backends))


class Peer(Proxy):
    """A proxy with a listener in each client's pod."""

    program: str
    port: int | None = None  # of the backends; None: rpc_backend's

    @classmethod
    def available(cls):
        if shutil.which(cls.program) is None:
            raise Missing(f"{cls.program} is not installed: tools/setup (packages.txt)")

    def target(self, number):
        return f"127.0.0.1:{FIRST_PORT + number}"

    def start(self):
        self.pod = self.bed.proxy_pod
        self.folder = self.bed.lab.folder / self.name
        self.folder.mkdir(exist_ok=True)
        listeners = [pod.listen(FIRST_PORT + i, backlog=4096) for i, pod in enumerate(self.bed.clients)]
        try:
            descriptors = [listener.fileno() for listener in listeners]
            argv, environment = self.command(descriptors)
            self.process = self.pod.popen(["taskset", "-c", self.bed.PROXY_CPU, *argv], pass_fds=descriptors, env=environment)
        finally:
            for listener in listeners:
                listener.close()
        self.pid = self.process.pid

    def stop(self):
        processes.stop(self.process)

    def command(self, listeners: list[int]) -> tuple[list, dict]:
        """argv and environment, with the configuration written; `listeners` are the descriptors it inherits."""
        raise NotImplementedError


_HAPROXY = """
global
  nbthread 1
  maxconn 9000
  maxpipes 64
defaults
  mode {mode}
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  {options}
frontend clients
{binds}
  default_backend backends
backend backends
  balance leastconn
{servers}
"""


class HaProxy(Peer):
    name = program = "haproxy"
    own_memory = True
    mode, protocol, options = "http", "proto h2", "http-reuse always"

    def command(self, listeners):
        config = self.folder / "haproxy.cfg"
        addresses = [self.bed.backend_address(number, self.port) for number in range(len(self.bed.backends))]
        config.write_text(
            _HAPROXY.format(
                mode=self.mode,
                options=self.options,
                binds="\n".join(f"  bind fd@{fd} {self.protocol}" for fd in listeners),
                servers="\n".join(f"  server s{i} {a} {self.protocol}" for i, a in enumerate(addresses)),
            )
        )
        return ["haproxy", "-db", "-f", config], {}


class HaProxyTcp(HaProxy):
    """The floor of an L4 proxy: connections are balanced, bytes are passed on, spliced where HAProxy thinks that it pays."""

    name = "haproxy-tcp"
    own_memory = False
    load = ("--not-http2",)  # as weir-tcp's
    mode, protocol, options = "tcp", "", "option splice-auto"


_NGINX = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
error_log stderr warn;
pid {folder}/nginx.pid;
events {{ worker_connections 16000; }}
http {{
  access_log off;
  client_max_body_size 0;
  keepalive_requests {unlimited};
  upstream backends {{
    least_conn;
{servers}
    keepalive 500;
    keepalive_requests {unlimited};
  }}
  server {{
{listens}
    location / {{ grpc_pass grpc://backends; }}
  }}
}}
"""


class Nginx(Peer):
    name = program = "nginx"

    def command(self, listeners):
        config = self.folder / "nginx.conf"
        addresses = [self.bed.backend_address(number, self.port) for number in range(len(self.bed.backends))]
        config.write_text(
            _NGINX.format(
                folder=self.folder,
                unlimited=UNLIMITED,
                servers="\n".join(f"    server {address};" for address in addresses),
                listens="\n".join(f"    listen 0.0.0.0:{FIRST_PORT + i} http2;" for i in range(len(listeners))),
            )
        )
        # As a binary upgrade does it: nginx takes listeners over that this variable names.
        return ["nginx", "-c", config], {"NGINX": "".join(f"{fd};" for fd in listeners)}

    def start(self):
        super().start()
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        worker = processes.wait_until(children.read_text, 5, "nginx has its worker")
        self.pid = int(worker)
