"""Which servers a request reaches: matches on headers, and weights."""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

from h2_peers import Client
from scenario import Seen, errors, scenario
from world import MISSION, Load, World, to, virtual_service

HOST = "grpc-service"
SUBSETS = MISSION / "destinationrule-subsets.yaml"
CANARY = MISSION / "virtualservice-canary.yaml"


def header_rule(name: str, match: dict) -> dict:
    """To v2 what matches, all else to v1."""
    matching = {"match": [{"headers": {name: match}}], "route": [to(HOST, "v2")]}
    return virtual_service(HOST, matching, {"route": [to(HOST, "v1")]})


def versions(world: World) -> str:
    """Of the servers that had requests since they were last told how to behave; they are told again."""
    reached = {version for version, at in zip(("v1", "v1", "v2"), world.requests()) if at > 0}
    world.behave()
    return "+".join(sorted(reached)) or "none"


def by_content_type(world: World, match: dict) -> dict:
    """{content type: versions}: application/grpc by a real client; it can't send another, so a bare peer does."""
    with world.rules(SUBSETS, header_rule("content-type", match)):
        result = world.greet(world.grpc_service.target, "--rpcs", 50)
        found = {"grpc": versions(world) if not result["errors"] else errors(result)}
        with Client(world.client.connect(world.grpc_service.vip, 50051)) as peer:
            statuses = {peer.call(content_type="application/grpc+proto").grpc_status for _ in range(20)}
        found["grpc+proto"] = versions(world) if statuses == {0} else f"status {statuses}"
    return found


def shown(found: dict) -> str:
    return ", ".join(f"{name}: {value}" for name, value in found.items())


@scenario("content-type, exact", "exact application/grpc to v2: grpc: v2, grpc+proto: v1")
def content_type_exact(world: World) -> Seen:
    found = by_content_type(world, {"exact": "application/grpc"})
    return Seen(shown(found), found == {"grpc": "v2", "grpc+proto": "v1"})


@scenario("content-type, prefix", "prefix application/grpc to v2: grpc: v2, grpc+proto: v2")
def content_type_prefix(world: World) -> Seen:
    found = by_content_type(world, {"prefix": "application/grpc"})
    return Seen(shown(found), found == {"grpc": "v2", "grpc+proto": "v2"})


@scenario("custom header", "x-cohort canary to v2: canary: v2, stable: v1, without: v1")
def custom_header(world: World) -> Seen:
    found = {}
    with world.rules(SUBSETS, header_rule("x-cohort", {"exact": "canary"})):
        for name in ("canary", "stable", "without"):
            metadata = [] if name == "without" else ["--metadata", f"x-cohort={name}"]
            result = world.greet(world.grpc_service.target, "--rpcs", 50, *metadata)
            found[name] = versions(world) if not result["errors"] else errors(result)
    return Seen(shown(found), found == {"canary": "v2", "stable": "v1", "without": "v1"})


RPCS = 10_000


def bounds(share: float) -> tuple[int, int]:
    """Between which 99.9 % of binomial(RPCS, share) lie."""
    spread = NormalDist().inv_cdf(1 - 0.001 / 2) * sqrt(RPCS * share * (1 - share))
    return round(RPCS * share - spread), round(RPCS * share + spread)


class Share(NamedTuple):
    counts: list[int]  # of RPCS each, that came to v2
    errors: list[dict]
    expected: bool

    def __str__(self) -> str:
        return " (outside: once more) ".join(map(str, self.counts))


def share_of_v2(world: World, share: float) -> Share:
    """One run of RPCS calls, and if its count is outside the bounds one more, which decides: one run of a correct product
    in a thousand is outside, and each time this is played has two; two independent ones in a row are one in a million."""
    least, most = bounds(share)
    counts, failed = [], []
    while not counts or (len(counts) == 1 and not least <= counts[0] <= most):
        result = world.greet(world.grpc_service.target, "--rpcs", RPCS, "--concurrency", 4)
        counts.append(result["backends"].get(world.v2.pod.uid, 0))
        failed += result["errors"]
    return Share(counts, failed, least <= counts[-1] <= most)


@scenario(
    "canary 90/10, then 50/50",
    "v2: {} to {}, then {} to {} of 10,000 RPCs (99.9 %; outside: once more); no error".format(*bounds(0.1), *bounds(0.5)),
)
def canary(world: World) -> Seen:
    half = CANARY.read_text().replace("weight: 90", "weight: 50").replace("weight: 10", "weight: 50")
    with world.rules(SUBSETS, CANARY):
        tenth = share_of_v2(world, 0.1)
        with Load(world.client, world.grpc_service.target, "--rate", 500, "--concurrency", 4) as load:
            world.agent.wait_served(200)
            world.publish({CANARY.name: half})
            world.agent.wait_served(200)
        even = share_of_v2(world, 0.5)
    failed = {"errors": tenth.errors + load.result["errors"] + even.errors}
    text = f"v2: {tenth}, then {even}; {errors(failed)}, {load.result['ok']} RPCs while it moved"
    return Seen(text, tenth.expected and even.expected and not failed["errors"] and load.result["ok"] >= 400)
