"""One measurement: rpc_load against one proxy in one shape."""

import json
import subprocess

from lab import processes

from . import matrix
from .report import Sample
from .testbed import Testbed, tool


def arguments(bed: Testbed, proxy, shape: matrix.Shape) -> list[str]:
    """rpc_load's for this proxy and shape: the targets, each with the pod that dials it."""
    targets = [f"{proxy.target(i)}@{pod.pid}" for i, pod in enumerate(bed.clients[: shape.pods])]
    return [*targets, "--connections", str(shape.connections), "--streams", str(shape.streams), *proxy.load]


def start(bed: Testbed, argv: list, program="rpc_load", **options) -> subprocess.Popen:
    """The program starts outside the pods, in the lab's cgroup, and enters them by itself."""
    log = bed.lab.folder / "logs" / "load.log"
    command = [str(tool(program)), *map(str, argv), "--cgroup", str(bed.lab.cgroup)]
    return processes.spawn(command, cgroup=bed.lab.cgroup / "node", log=log, stdout=subprocess.PIPE, text=True, **options)


def run(bed: Testbed, argv: list, timeout=90.0, program="rpc_load") -> dict:
    process = start(bed, argv, program)
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait(5)
    if process.returncode != 0:
        said = (bed.lab.folder / "logs" / "load.log").read_text()[-500:]
        raise RuntimeError(f"{program} {' '.join(map(str, argv))}: {said}")
    return json.loads(output)


def measure(bed: Testbed, proxy, number: int, shape: str, payload: str, timing: dict, rate=0.0, idle=0.0) -> Sample:
    """One sample. `rate` is the open loop's (calls a second), `idle` the machine's busy parts of a core without load."""
    argv = [*arguments(bed, proxy, matrix.SHAPES[shape]), *matrix.PAYLOADS[payload]]
    argv += ["--warm-up", timing["warm_up"], "--duration", timing["window"]]
    argv += ["--watch", proxy.pid] if proxy.pid else []
    argv += ["--rate", rate] if rate else []
    segments = bed.segments()
    result = run(bed, argv)
    return sample(result, number, proxy.name, shape, payload, bed.segments() - segments, idle)


def sample(result: dict, number: int, proxy: str, shape: str, payload: str, segments: int, idle: float) -> Sample:
    """rpc_load's result per RPC. `segments` belong to all its calls, warm-up included; CPU to those in the window."""
    calls, cpu, latency = max(result["completed"], 1), result["cpu_us"], result["latency_us"]
    served = result["backends"] + [0] * (Testbed.BACKENDS - len(result["backends"]))
    errors = dict(result["errors"])
    if not result["completed"]:
        errors["no call completed"] = 1
    return Sample(
        round=number,
        proxy=proxy,
        shape=shape,
        payload=payload,
        cpu_us=cpu["process"] / calls,
        system_us=(cpu["cgroup"] + cpu["kernel"]) / calls,
        machine_us=(cpu["busy"] - idle * result["seconds"] * 1e6) / calls,
        rps=result["completed"] / result["seconds"],
        mean_us=latency["mean"],
        p50_us=latency["p50"],
        p99_us=latency["p99"],
        segments=segments / max(result["total"], 1),
        errors=errors,
        shares=tuple(count / max(sum(served), 1) for count in served),
    )
