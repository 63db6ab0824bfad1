"""Where the matrix plays: one lab with an agent, the servers that the chosen rows ask for, a Service a row, and two
client pods that differ in one label: the enrolled one and the one that weir leaves alone."""

import json
import re
import socket
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import servers
from lab import processes
from lab.node import Lab
from lab.service import Port, Service
from report import Outcome
from row import BALANCED, LEARNED, PLAIN, RELAYED, End, Row, differences, wrong

# First bytes of servers that speak first: how often, how much later they may come through weir (median; ms), and how often
# all of it is done anew, since a busy machine is slower for a while, and an agent that waits always.
SAMPLES, LATER, TRIES = 20, 2.0, 3
STARTING = 60  # seconds that an agent may take on a busy machine


class Stage:
    def __init__(self, lab: Lab, rows: list[Row]):
        self.lab = lab
        # Outside the lab's folder, which only root may enter: some servers insist on a user of their own.
        self._scratch = tempfile.TemporaryDirectory(prefix="weir-matrix-")
        self.folder = Path(self._scratch.name)
        self.folder.chmod(0o755)
        self.direct = lab.pod("direct", dataplane="disabled")
        self.enrolled = lab.pod("enrolled", dataplane="enabled")
        made = {name: servers.SERVERS[name](lab, self.folder) for name in dict.fromkeys(row.server for row in rows)}
        for server in made.values():
            server.wait()
        self.services = {row.key: self._service(row, made[row.server]) for row in rows}
        self.agent = None
        self._learns = False

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_) -> None:
        self._scratch.cleanup()

    def _service(self, row: Row, server: servers.Server) -> Service:
        port = Port(row.port.name, row.port.number or server.port, server.port, row.port.app_protocol)
        return self.lab.service(row.key, [port], server.pods)

    def _agent_for(self, row: Row) -> None:
        """With the shipped defaults what is not HTTP/2 soon goes past the agent: that is for the rows that are about it."""
        learns = row.handled == LEARNED
        if self.agent and self._learns == learns:
            return
        if self.agent:
            self.agent.stop()
        self.agent = self.lab.agent(arguments=[] if learns else ["--learn-after", "0"])
        self._learns = learns
        self.agent.start(timeout=STARTING)
        self.agent.wait_enrolled(self.enrolled, timeout=STARTING)
        self.agent.wait_applied(timeout=STARTING)

    def play(self, row: Row) -> Outcome:
        """An exception is an observation like any other, and fails the row."""
        started = time.monotonic()
        outcome = Outcome(row)
        try:
            self._agent_for(row)
            self._play(row, outcome)
        except Exception as error:
            outcome.failures.append(f"{type(error).__name__}: {error}")
        outcome.seconds = time.monotonic() - started
        return outcome

    def _play(self, row: Row, outcome: Outcome) -> None:
        service = self.services[row.key]
        detected, bypassed = self._detected(), self._bypassed()
        direct, weir = ends = [self._end(side, row, service) for side in (1, 2)]
        outcome.direct, outcome.weir = direct.steps, weir.steps
        if row.speaks_first:
            self._first_bytes(ends, outcome)
        with ThreadPoolExecutor(2) as threads:
            for played in [threads.submit(row.play, end) for end in ends]:
                played.result()
        outcome.failures += wrong(direct.steps) + differences(direct.steps, weir.steps)
        astray = self._bypassed() - bypassed
        past = astray.pop("learned", 0)
        if astray:
            outcome.failures.append(f"connections went the plain way: {dict(astray)}")
        outcome.handled = self.handled(service, past)
        if outcome.handled != row.handled:
            outcome.failures.append(f"the connections were {outcome.handled}, expected: {row.handled}")
        if row.handled == LEARNED:
            outcome.notes.append(f"{past} connections past the agent")
        if row.check:
            outcome.failures += row.check(direct, weir, outcome.handled)
        outcome.notes += direct.notes + weir.notes
        outcome.notes += self._detections(row, service, detected, outcome)
        if row.explained:
            self._explain(row, service, outcome)

    def _end(self, side: int, row: Row, service: Service) -> End:
        pod = (self.direct, self.enrolled)[side - 1]
        folder = self.folder / f"{pod.name}-{service.name}"
        folder.mkdir()
        return End(side, pod, service, row.port.ipv6, folder, self.folder)

    def handled(self, service: Service, past: int) -> str:
        """What the agent did with the connections to the Service, by its own account; `past` went past it by what it learned."""
        counted = {
            BALANCED: self.agent.metric("istio_requests_total", destination_service_name=service.name),
            RELAYED: self.agent.metric("istio_tcp_connections_opened_total", destination_service_name=service.name),
        }
        if past > 0 and counted[RELAYED] and not counted[BALANCED] and self._learned(service):
            return LEARNED
        return " and ".join(what for what, count in counted.items() if count) or PLAIN

    def _learned(self, service: Service) -> bool:
        """Whether there is a verdict about the Service."""
        verdicts = json.loads(self.agent.weirctl("verdicts", "list", "-o", "json"))
        return any(verdict["service"] == f"{service.namespace}/{service.name}" for verdict in verdicts)

    def _bypassed(self) -> Counter:
        """Why -> connections that the agent might have had."""
        return Counter({labels["reason"]: int(value) for name, labels, value in self.agent.samples() if name == "weir_bypass_total"})

    def _detected(self) -> Counter:
        """(declared, detected) -> connections."""
        return Counter(
            {(labels["declared"], labels["detected"]): int(value) for name, labels, value in self.agent.samples()
             if name == "weir_detected_connections_total"}
        )  # fmt: skip

    def _detections(self, row: Row, service: Service, before: Counter, outcome: Outcome) -> list[str]:
        """What the agent's counters say that the row's connections were. What is declared wrongly must show there, by its Service."""
        found = self._detected() - before
        expected = "http2" if row.port.as_http2 else "none"
        if row.handled != PLAIN and not found:
            outcome.failures.append("weir_detected_connections_total says nothing of it")
        if any(declared != expected or (detected == "http2") != (row.handled == BALANCED) for declared, detected in found):
            outcome.failures.append(f"weir_detected_connections_total says {dict(found)}")
        wrongly = sum(count for (declared, detected), count in found.items() if declared == "http2" and detected != "http2")
        counted = self.agent.metric("weir_misdeclared_connections_total", destination_service_name=service.name, destination_port=str(service.ports[0].port))
        if counted != wrongly:
            outcome.failures.append(f"weir_misdeclared_connections_total says {counted:g} of {wrongly} connections")
        return [f"{count} {detected} where {'nothing' if declared == 'none' else declared} is declared" for (declared, detected), count in found.items()]

    def _explain(self, row: Row, service: Service, outcome: Outcome) -> None:
        said = self.agent.weirctl("why", f"default/{self.enrolled.name}", f"default/{service.name}:{service.ports[0].port}")
        outcome.notes.append(said.split(": ", 1)[1].strip().replace("\n", "; "))
        if not re.search(row.explained, outcome.notes[-1]):
            outcome.failures.append(f"weirctl why does not say {row.explained!r}")

    def _first_bytes(self, ends: list[End], outcome: Outcome) -> None:
        for _ in range(TRIES):
            taken = [[first_byte(end) for end in ends] for _ in range(SAMPLES)]
            direct, weir = (statistics.median(times) * 1000 for times in zip(*taken))
            outcome.notes.append(f"first byte {direct:.2f} ms directly, {weir:.2f} through weir")
            if weir - direct <= LATER:
                break
        else:
            outcome.failures.append(f"the first byte comes {weir - direct:.1f} ms later (at most {LATER:g})")


def first_byte(end: End) -> float:
    """Seconds from connect() to the server's first byte."""
    connection = end.pod.open_socket(socket.AF_INET6 if end.ipv6 else socket.AF_INET)
    with connection:
        connection.settimeout(20)
        started = time.monotonic()
        connection.connect((end.host, end.port))
        if not connection.recv(1):
            raise processes.CommandFailed(f"{end.service.name} said nothing and closed")
        return time.monotonic() - started
