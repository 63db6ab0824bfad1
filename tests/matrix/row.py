"""What a row of the matrix is: software, the port it is reached by, what its client does, and how the agent must have
handled it. The client plays twice, in a pod without weir and in an enrolled one, and must see the same."""

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lab.pod import Pod
from lab.service import Service

BALANCED, RELAYED, PLAIN = "balanced", "relayed", "not diverted"
# By the shipped defaults, where all other rows have an agent that learns nothing: relayed at first, then past the agent.
LEARNED = "learned"


@dataclass(frozen=True)
class Declared:
    """A port of a Service, as its manifest declares it."""

    name: str
    app_protocol: str | None = None
    number: int | None = None  # the server's, if not given
    ipv6: bool = False  # dialled at the Service's IPv6 address

    @property
    def as_http2(self) -> bool:
        return (self.app_protocol or self.name.partition("-")[0]) in ("grpc", "http2", "kubernetes.io/h2c")

    def __str__(self) -> str:
        said = ", ".join(([self.app_protocol] if self.app_protocol else []) + (["IPv6"] if self.ipv6 else []))
        return f"{self.name} ({said})" if said else self.name


@dataclass(frozen=True)
class Step:
    """One thing that a client did: how it ended, and what it printed."""

    name: str
    status: int
    said: str
    expected: int = 0
    # What direct runs must print, where that is known beforehand.
    known: str | re.Pattern | None = None

    @property
    def right(self) -> bool:
        if self.status != self.expected:
            return False
        return self.known is None or bool(self.known.fullmatch(self.said) if isinstance(self.known, re.Pattern) else self.said == self.known)


@dataclass
class End:
    """One of the two sides that a row is played from, and what it saw."""

    side: int  # 1: directly, 2: through weir; for what the server keeps
    pod: Pod
    service: Service
    ipv6: bool
    folder: Path  # of this side alone, for files
    shared: Path  # what servers were made with: keys, certificates
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # not compared
    servers: int = 0  # that a gRPC client has met
    deadlines: Counter[str] = field(default_factory=Counter)  # status -> calls of a gRPC client that met their deadline

    @property
    def host(self) -> str:
        return self.service.vip6 if self.ipv6 else self.service.vip

    @property
    def port(self) -> int:
        return self.service.ports[0].port

    @property
    def address(self) -> str:
        """As URLs have it."""
        return self.service.target6 if self.ipv6 else self.service.target

    def start(self, argv, **kwargs) -> subprocess.Popen:
        """A command in the pod that finish() ends."""
        return self.pod.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)

    def finish(self, process: subprocess.Popen, input: bytes | None = None, timeout=120.0) -> bytes:
        """What it printed."""
        try:
            return process.communicate(input, timeout)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0] + f"\nno end after {timeout:g} s".encode()

    def ended(self, name: str, process: subprocess.Popen) -> bytes:
        """What it printed; how it ended is a step."""
        out = self.finish(process)
        self.steps.append(Step(f"{name} ended", process.returncode, ""))
        return out

    def run(self, name: str, argv, **how) -> None:
        """A step: a command in the pod, begun and ended."""
        self.begin(name, argv, **how)()

    def begin(self, name: str, argv, expected=0, input: bytes | None = None, timeout=120.0, scrub: dict | None = None, quiet=False,
              known: str | re.Pattern | None = None) -> Callable[[], None]:  # fmt: skip
        """A step that the returned function ends, for several at once. `scrub`: pattern -> replacement for what is legitimately
        another each time. `quiet`: what it prints is for people, and only of interest when it fails. `known`: what a direct run
        must print."""
        process = self.start(argv)

        def end() -> None:
            out = self.finish(process, input, timeout)
            for pattern, replacement in (scrub or {}).items():
                out = re.sub(pattern.encode(), replacement.encode(), out)
            said = "" if quiet and process.returncode == expected else digest(out)
            self.steps.append(Step(name, process.returncode, said, expected, known))

        return end

    def saw(self, name: str, text: str, known: str | re.Pattern | None = None) -> None:
        """A step that this process did itself."""
        self.steps.append(Step(name, 0, text, known=known))


def digest(out: bytes) -> str:
    """Short output as it is, long output by its sum."""
    text = out.decode(errors="backslashreplace").strip()
    return text if len(text) <= 600 and "\\x" not in text else f"{len(out)} bytes, sha256 {hashlib.sha256(out).hexdigest()[:16]}"


@dataclass(frozen=True)
class Row:
    what: str
    port: Declared
    server: str  # of servers.SERVERS
    play: Callable[[End], None]
    handled: str
    # A server that speaks first: the time to its first byte is compared, too.
    speaks_first: bool = False
    # What `weirctl why` must say of it (a pattern), where an operator would be surprised.
    explained: str | None = None
    stacks: tuple[str, ...] = ()  # of stacks.py, that its client and its server are built from
    # What else must be true of what the two ends saw, given how the connections were handled: failures in words.
    check: Callable[[End, End, str], list[str]] | None = None

    @property
    def name(self) -> str:
        return f"{self.what}, port {self.port}" + (", as shipped" if self.handled == LEARNED else "")

    @property
    def key(self) -> str:
        """Of its Service."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


ROWS: list[Row] = []


def differences(direct: list[Step], weir: list[Step]) -> list[str]:
    """In words; empty if both saw the same."""
    found = []
    if [s.name for s in direct] != [s.name for s in weir]:
        found.append(f"other steps: {[s.name for s in direct]} directly, {[s.name for s in weir]} through weir")
    for one, other in zip(direct, weir):
        if (one.status, one.said) != (other.status, other.said):
            found.append(f"{one.name}: directly exit {one.status}, {one.said!r}; through weir exit {other.status}, {other.said!r}")
    return found


def wrong(steps: list[Step]) -> list[str]:
    """What went wrong without weir, so that it proves nothing."""
    return [f"{s.name}: directly exit {s.status} (expected {s.expected}), {s.said!r}" for s in steps if not s.right]
