"""The known slips: each is reported with file, line and the likely fix, and does what it does in Istio, no more."""

from pathlib import Path

from scenario import Seen, errors, scenario, shorten
from world import CORRECTED, MISSION, World

SLIPS = CORRECTED / "slips"
RETRIES = CORRECTED / "virtualservice-retries.yaml"
CANARY = MISSION / "virtualservice-canary.yaml"
SUBSETS = MISSION / "destinationrule-subsets.yaml"
GATEWAY = MISSION / "gateway.yaml"
WORKS, FAILS = "no error", "3 UNAVAILABLE"


def slip(name: str, files: list[Path], code: str, lines: list[int], fix: str, calls: str) -> None:
    """The first of the files has it. `calls`: what three RPCs to the mission's Service meet meanwhile."""
    where = ", ".join(map(str, lines))

    @scenario(f"slip, {name}", f"{code} at {where} says {fix!r}; calls: {calls}")
    def reported(world: World) -> Seen:
        with world.rules(*files):
            found = world.findings(files[0].name, code)
            met = errors(world.greet(world.grpc_service.target, "--rpcs", 3))
        at, said = [f["line"] for f in found], [f["fix"] or f["message"] for f in found]
        text = f"{code} at {', '.join(map(str, at))}: {shorten(said[0], 42)}" if found else f"no {code}"
        return Seen(f"{text}; {met}", at == lines and all(fix in words for words in said) and met == calls)


slip("apiVersion networking.io/v1", [MISSION / "destinationrule-pool.yaml"], "WEIR0204", [1], "networking.istio.io/v1", WORKS)
slip("svc.cluster.cluster.local", [MISSION / "virtualservice-retries.yaml"], "WEIR0205", [12], "default.svc.cluster.local", FAILS)
slip("a subset nobody defines", [CANARY], "WEIR0505", [13, 17], "define the subset", FAILS)
slip("weights from v1 to v1", [SLIPS / "weights-v1-to-v1.yaml", SUBSETS], "WEIR0511", [17], "name another subset", WORKS)
slip("a number as header value", [SLIPS / "numeric-header.yaml"], "WEIR0101", [13], 'quote it: "7"', WORKS)
slip("two VirtualServices for a host", [RETRIES, CANARY, SUBSETS], "WEIR0506", [2], "one VirtualService", WORKS)
slip("retries that may repeat calls", [RETRIES], "WEIR0512", [19], "weir.dev/idempotent-methods", WORKS)
slip("a Gateway and its route", [GATEWAY, MISSION / "virtualservice-ingress.yaml"], "WEIR0201", [1], "not applied yet", WORKS)
