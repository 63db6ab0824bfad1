"""The known slips: each is reported with file, line and the likely fix, and does what it does in Istio, no more."""

from pathlib import Path

from scenario import Seen, errors, scenario
from world import HERE, MISSION, World

SLIPS = HERE / "manifests" / "slips"
SUBSETS = MISSION / "destinationrule-subsets.yaml"
WORKS, FAILS = "no error", "3 UNAVAILABLE"


def slip(name: str, files: list[Path], code: str, lines: list[int], fix: str, calls: str) -> None:
    """The first of the files has it. `calls`: what three RPCs to the mission's Service meet meanwhile."""
    where = ", ".join(map(str, lines))

    @scenario(f"slip: {name}", f"{code} at {where} says {fix!r}; calls: {calls}")
    def reported(world: World) -> Seen:
        with world.rules(*files):
            found = [f for f in world.findings(files[0].name) if f["code"] == code]
            met = errors(world.greet(world.grpc_service.target, "--rpcs", 3))
        text = "; ".join(f"{f['code']} at {f['line']}: {f['fix'] or f['message']}" for f in found[:1]) or f"no {code}"
        said = all(fix in f["fix"] or fix in f["message"] for f in found)
        return Seen(f"{text}; {met}", [f["line"] for f in found] == lines and said and met == calls)


slip("apiVersion networking.io/v1", [MISSION / "destinationrule-pool.yaml"], "WEIR0204", [1], "networking.istio.io/v1", WORKS)
slip("svc.cluster.cluster.local", [MISSION / "virtualservice-retries.yaml"], "WEIR0205", [12], "default.svc.cluster.local", FAILS)
slip("a subset nobody defines", [MISSION / "virtualservice-canary.yaml"], "WEIR0505", [13, 17], "define the subset", FAILS)
slip("weights from v1 to v1", [SLIPS / "weights-v1-to-v1.yaml", SUBSETS], "WEIR0511", [17], "name another subset", WORKS)
slip("a number as header value", [SLIPS / "numeric-header.yaml"], "WEIR0101", [13], 'quote it: "7"', WORKS)
slip("a Gateway", [MISSION / "gateway.yaml"], "WEIR0201", [1], "not applied yet", WORKS)
