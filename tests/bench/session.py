"""All measurements: every row of every proxy in each round, the order of the proxies turned from round to round."""

import sys
import time
from contextlib import contextmanager
from pathlib import Path

from . import load, matrix
from .envoy import Envoy
from .peers import Direct, HaProxy, HaProxyTcp, Missing, Nginx
from .testbed import Testbed
from .weir import Weir, WeirRedirect, WeirTcp

PROXIES = (Direct, HaProxy, Nginx, Envoy, HaProxyTcp, Weir, WeirRedirect, WeirTcp)
START_SECONDS = 2.0  # of a proxy, and of its end, with many pods
SETTLE = {"warm_up": 0.1, "window": 0.4}  # before a proxy's first row: pools fill, allocators warm


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def available(proxies) -> tuple[list, dict]:
    """Those that can be had, and why the others can't: {name: reason}."""
    usable, missing = [], {}
    for proxy in proxies:
        try:
            proxy.available()
            usable.append(proxy)
        except Missing as reason:
            missing[proxy.name] = str(reason)
    return usable, missing


def busy_seconds() -> float:
    """Busy time of the machine: user, nice, system, irq and softirq of /proc/stat."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(fields[i]) for i in (0, 1, 2, 5, 6)) / 100


def idle_load(seconds: float) -> float:
    """How many cores the machine is busy with while nothing is measured."""
    before = busy_seconds()
    time.sleep(seconds)
    return (busy_seconds() - before) / seconds


@contextmanager
def running(bed: Testbed, kind):
    proxy = kind(bed)
    proxy.start()
    try:
        load.measure(bed, proxy, 0, "10x4", "tiny", SETTLE)
        yield proxy
    finally:
        proxy.stop()


def saturation(bed: Testbed, seconds: float) -> float:
    """Calls a second through HAProxy, closed loop."""
    with running(bed, HaProxy) as proxy:
        timing = {"warm_up": 0.3, "window": seconds}
        return load.measure(bed, proxy, 0, matrix.SATURATION_SHAPE, "tiny", timing).rps


def rounds(bed: Testbed, plan: list[tuple[int, list]], rows, timing: dict) -> list:
    """`plan`: (number of the round, its proxies in order). Returns the samples."""
    capacity = 0.0
    if any(matrix.SHAPES[shape].part for shape, _ in rows):
        capacity = saturation(bed, timing["window"])
        say(f"open loop: parts of HAProxy's {capacity:.0f} calls a second")
    samples = []
    for number, proxies in plan:
        for kind in proxies:
            idle = idle_load(timing["idle"])
            with running(bed, kind) as proxy:
                for shape, payload in rows:
                    rate = (matrix.SHAPES[shape].part or 0) * capacity
                    samples.append(load.measure(bed, proxy, number, shape, payload, timing, rate, idle))
        say(f"round {number} of {max(n for n, _ in plan)} done")
    return samples


def turned(proxies: list, number: int) -> list:
    """The proxies in the order of that round: each is first, second, ... as often as the others."""
    shift = (number - 1) % len(proxies)
    return proxies[shift:] + proxies[:shift]


def expected_seconds(plan, rows, timing: dict, pods: int) -> float:
    runs = sum(len(proxies) for _, proxies in plan)
    row = timing["warm_up"] + timing["window"] + 0.15
    return 5 + 0.15 * pods + runs * (START_SECONDS + timing["idle"] + len(rows) * row)
