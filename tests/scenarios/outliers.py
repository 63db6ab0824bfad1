"""An endpoint that fails is left alone, and comes back."""

import time

from lab.processes import wait_until
from scenario import Seen, errors, scenario
from world import Load, World

ERRORS = 5
EJECTION = 2.0


@scenario("outlier detection", f"ejected after {ERRORS} errors in a row, back after {EJECTION:g} to 3.5 s, then no error")
def ejected_and_back(world: World) -> Seen:
    policy = {
        "consecutive5xxErrors": ERRORS,
        "interval": "500ms",
        "baseEjectionTime": f"{EJECTION:g}s",
        "maxEjectionPercent": 34,
    }
    with world.policed("outlier", *world.servers, outlierDetection=policy) as service:
        # A status that the default policy does not retry, so that the client sees each.
        world.v1.behave(code=13)
        with Load(world.client, service.target, "--rate", 100) as load:
            wait_until(lambda: world.v1.seen()["requests"] >= ERRORS, 5, "the failing server has been found out")
            ejected = time.monotonic()
            time.sleep(EJECTION / 2)
            meanwhile = world.v1.seen()["requests"] - ERRORS
            world.v1.behave()
            wait_until(lambda: world.v1.seen()["requests"] > 0, 5, "the server is back")
            away = time.monotonic() - ejected
            wait_until(lambda: world.v1.seen()["requests"] > 20, 5, "the server has its share again")
    text = f"{errors(load.result)}; {meanwhile} RPCs meanwhile; back after {away:.1f} s"
    passed = errors(load.result) == f"{ERRORS} INTERNAL" and meanwhile == 0 and EJECTION <= away <= 3.5
    return Seen(text, passed)
