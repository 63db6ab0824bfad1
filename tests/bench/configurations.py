"""What rules, and the size of the configuration, cost a call: weir alone, in turn under each of some configurations."""

import json
import os
import statistics
import subprocess
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from lab import manifests
from lab.agent import binary
from lab.service import Endpoint, Port

from . import load, matrix
from .extras import resident_bytes
from .session import running, say, turned
from .testbed import Alias, Testbed
from .weir import Weir

SERVICES_A_FILE = 1000
FIRST_VIP, FIRST_ENDPOINT = ip_address("10.100.0.0"), ip_address("10.246.0.0")
APPLIED_SECONDS = 60.0


def rules(bed: Testbed, rounds: int) -> list:
    """Samples of a Service without rules, with and without rules elsewhere, and with ten rules."""
    return _in_turn(bed, matrix.RULES, rounds * matrix.RULES_ROUNDS, matrix.RULES_TIMING)[0]


def routes(bed: Testbed) -> list[dict]:
    """[{"what", "ns"}]: what routing::route() alone takes under the same configurations. Of the calls' CPU that is the
    part which rules add to, and it can be told apart where windows differ by more."""
    results = []
    with bed.wide_service("called", matrix.CALLED_ENDPOINTS) as service:
        for name, what in matrix.RULES.items():
            files = sorted(_write(bed.lab.folder / f"routes, {name}", service, what).iterdir())
            command = [binary("tests") / "bench" / "route_bench", f"{service.name}.default.svc.cluster.local",
                       Testbed.BACKEND_PORT, service.manifest, service.slices_manifest, *files]  # fmt: skip
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=True)
            results.append({"what": name, "ns": float(done.stdout)})
    say(f"routes: {json.dumps(results)}")
    return results


def sizes(bed: Testbed, rounds: int, timing: dict) -> tuple[list, list[dict]]:
    """Samples under a small and a large configuration; and of each [{"what", "bytes" resident, "build_seconds"}].
    The small one's bytes are from before the large one came."""
    samples, seen = _in_turn(bed, matrix.SIZES, rounds, timing)
    facts = [
        {"what": name, "bytes": each[0]["bytes"], "build_seconds": statistics.median(s["build_seconds"] for s in each)}
        for name, each in seen.items()
    ]
    for fact in facts:
        say(f"size: {json.dumps(fact)}")
    return samples, facts


def _in_turn(bed: Testbed, configurations: dict, rounds: int, timing: dict) -> tuple[list, dict]:
    """Samples, and what else was seen each time: {name: [{"bytes", "build_seconds"}]}."""
    samples, seen = [], {name: [] for name in configurations}
    with bed.wide_service("called", matrix.CALLED_ENDPOINTS) as service, running(bed, Weir) as proxy:
        folders = {name: _write(bed.lab.folder / name, service, what) for name, what in configurations.items()}
        argv = load.arguments(bed, proxy, matrix.SHAPES[matrix.CONFIGURED_SHAPE])
        argv[0] = f"{service.target}@{bed.clients[0].pid}"
        argv += ["--warm-up", timing["warm_up"], "--duration", timing["window"], "--watch", proxy.pid]
        for number in range(1, rounds + 1):
            for name in turned(list(configurations), number):
                with _in_force(bed, proxy.agent, folders[name], configurations[name]):
                    build_seconds = proxy.agent.metric("weir_config_build_seconds")
                    seen[name].append({"bytes": resident_bytes(proxy.pid), "build_seconds": build_seconds})
                    segments = bed.segments()
                    result = load.run(bed, argv)
                    shape = matrix.configured_shape(name)
                    samples.append(load.sample(result, number, "weir", shape, "tiny", bed.segments() - segments, 0.0))
    say(f"{', '.join(configurations)}: done")
    return samples, seen


@contextmanager
def _in_force(bed: Testbed, agent, folder: Path, what: matrix.Configuration):
    """The folder comes and goes as a whole, so that the agent never meets a part of it."""
    there = bed.lab.manifests / "configuration"
    _change(agent, len(bed.lab.services) + what.others, lambda: os.rename(folder, there))
    yield
    _change(agent, len(bed.lab.services), lambda: os.rename(there, folder))


def _change(agent, services: int, act) -> None:
    """Returns when the agent runs with what has changed, and so many Services."""
    before = agent.stats()["config"]["revision"]
    act()

    def applied():
        config = agent.stats()["config"]
        return config["revision"] > before and config["services"] == services

    agent.wait(applied, APPLIED_SECONDS, f"a configuration with {services} Services is in force")
    findings = agent.stats()["config"]["findings"]
    if findings["error"] or findings["warning"]:
        raise RuntimeError(f"the agent has findings about the bench's manifests: {findings}")


def _write(folder: Path, called, what: matrix.Configuration) -> Path:
    """The configuration's manifests, apart from the called Service itself."""
    folder.mkdir()
    if what.rules:
        _write_list(folder / "called.json", [_virtual_service(called.name, what.rules)])
    for first in range(0, what.others, SERVICES_A_FILE):
        numbers = range(first, min(first + SERVICES_A_FILE, what.others))
        objects = [o for number in numbers for o in _other(number, number < what.endpoints, what.governed)]
        _write_list(folder / f"others-{first}.json", objects)
    return folder


def _write_list(path: Path, objects: list[dict]) -> None:
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def _other(number: int, endpoint: bool, governed: bool) -> list[dict]:
    name, ports = f"other-{number}", [Port("grpc", Testbed.BACKEND_PORT, Testbed.BACKEND_PORT)]
    objects = [manifests.service(name, "default", [str(FIRST_VIP + number)], ports, {})]
    if endpoint:
        address = str(FIRST_ENDPOINT + number)
        alias = Alias(name, "default", name, address)
        objects.append(manifests.endpoint_slice(name, "default", "IPv4", ports, [(address, Endpoint(alias))], "bench"))
    return objects + ([_virtual_service(name, 1)] if governed else [])


def _virtual_service(service: str, rules: int) -> dict:
    """The last rule takes every call."""
    host = f"{service}.default.svc.cluster.local"
    route = [{"destination": {"host": host}}]
    misses = [{"headers": {name: {how: value}}} for name, how, value in matrix.MISSES[: rules - 1]]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": service, "namespace": "default"},
        "spec": {"hosts": [host], "http": [*({"match": [miss], "route": route} for miss in misses), {"route": route}]},
    }
