"""Limits on connections and streams, by what the servers themselves count."""

from lab.pod import Pod
from scenario import Seen, errors, scenario
from world import MISSION, Load, World, hold

POOL = MISSION / "destinationrule-pool.yaml"


def peaks(seen: dict, source: Pod | None = None) -> tuple[int, int]:
    """(connections that brought calls, most calls at a time on one) at a server; of one pod, or of all."""
    most = [most for peer, (_, most) in seen["connections"].items() if not source or source.ip == peer.split(":")[1]]
    return len(most), max(most, default=0)


@scenario("maxConnections, maxConcurrentStreams", "2 and 5, 60 calls at a time: 2 connections, 5 streams on each; no error")
def both_limits(world: World) -> Seen:
    policy = {"tcp": {"maxConnections": 2}, "http": {"maxConcurrentStreams": 5}}
    with world.policed("both", world.v1, connectionPool=policy) as service:
        result = world.greet(service.target, "--rpcs", 120, "--concurrency", 60, "--deadline", 20, *hold(0.05))
        connections, streams = peaks(world.v1.seen())
    text = f"{connections} connections, {streams} streams at most; {errors(result)}"
    return Seen(text, (connections, streams) == (2, 5) and not result["errors"])


@scenario("the mission's pool, 100 and 100", "250 calls at a time, 1 server: 3 connections, 100 streams at most; no error")
def mission_pool(world: World) -> Seen:
    with world.mission_service(world.v1) as service, world.rules(POOL):
        result = world.greet(service.target, "--rpcs", 500, "--concurrency", 250, "--deadline", 20, *hold(0.5))
        connections, streams = peaks(world.v1.seen())
    text = f"{connections} connections, {streams} streams at most; {errors(result)}"
    return Seen(text, connections == 3 and streams <= 100 and not result["errors"])


@scenario("maxConnections 2, 3 endpoints", "60 calls at a time: all three get traffic, by 1 connection each; no error")
def fewer_than_endpoints(world: World) -> Seen:
    """An endpoint may always have one; streams are few, so that more would be opened if they might."""
    policy = {"tcp": {"maxConnections": 2}, "http": {"maxConcurrentStreams": 2}}
    with world.policed("fewer", *world.servers, connectionPool=policy) as service:
        result = world.greet(service.target, "--rpcs", 240, "--concurrency", 60, "--deadline", 20, *hold(0.05))
        seen = [server.seen() for server in world.servers]
    found = [(one["requests"], peaks(one)[0]) for one in seen]
    text = f"{', '.join(f'{n} RPCs by {c}' for n, c in found)}; {errors(result)}"
    return Seen(text, all(n >= 48 and c == 1 for n, c in found) and not result["errors"])


@scenario("maxConnections 5, 3 endpoints", "2 streams on each, 60 calls at a time: 5 connections in all; no error")
def shared_limit(world: World) -> Seen:
    policy = {"tcp": {"maxConnections": 5}, "http": {"maxConcurrentStreams": 2}}
    with world.policed("shared-limit", *world.servers, connectionPool=policy) as service:
        result = world.greet(service.target, "--rpcs", 240, "--concurrency", 60, "--deadline", 20, *hold(0.05))
        found = [peaks(server.seen()) for server in world.servers]
    text = f"{' + '.join(str(c) for c, _ in found)} connections, {max(s for _, s in found)} streams at most; {errors(result)}"
    passed = sum(c for c, _ in found) == 5 and all(c >= 1 and s == 2 for c, s in found)
    return Seen(text, passed and not result["errors"])


@scenario("a greedy and a modest client", "1 connection, 4 streams each: modest waits below 300 ms; no error")
def greedy_and_modest(world: World) -> Seen:
    """Behind the 50 calls of the greedy one, of 50 ms each and 4 at a time, it would be 600 ms."""
    policy = {"tcp": {"maxConnections": 1}, "http": {"maxConcurrentStreams": 4}}
    with world.policed("shared", world.v1, connectionPool=policy) as service:
        with Load(world.client, service.target, "--concurrency", 50, "--deadline", 20, *hold(0.05)) as greedy:
            world.agent.wait_served(20)
            modest = world.greet(service.target, "--rpcs", 100, *hold(0.005), pod=world.other_client)
        seen = world.v1.seen()
        found = [peaks(seen, pod) for pod in (world.client, world.other_client)]
    slowest = modest["latency_ms"]["max"] or 0
    text = f"greedy {found[0][1]} at a time on {found[0][0]}, modest at most {slowest:.0f} ms on {found[1][0]}; "
    text += errors({"errors": greedy.result["errors"] + modest["errors"]})
    return Seen(text, found == [(1, 4), (1, 1)] and 0 < slowest < 300 and text.endswith("no error"))


@scenario("maxRequestsPerConnection 0", "no limit: 200 RPCs on 1 connection; no error")
def requests_without_limit(world: World) -> Seen:
    return requests_a_connection(world, 0, [200])


@scenario("maxRequestsPerConnection 10", "200 RPCs on 20 connections, 10 on each; no error")
def ten_requests(world: World) -> Seen:
    return requests_a_connection(world, 10, [10] * 20)


def requests_a_connection(world: World, limit: int, expected: list[int]) -> Seen:
    policy = {"http": {"maxRequestsPerConnection": limit}}
    with world.policed(f"requests-{limit}", world.v1, connectionPool=policy) as service:
        result = world.greet(service.target, "--rpcs", 200)
        requests = sorted(n for n, _ in world.v1.seen()["connections"].values())
    text = f"{len(requests)} connections of {'/'.join(map(str, sorted(set(requests))))} RPCs; {errors(result)}"
    return Seen(text, requests == expected and not result["errors"])
