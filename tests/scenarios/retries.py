"""Which failures are tried again, how often, and how long an attempt may take."""

import json

from scenario import Seen, errors, scenario
from world import CORRECTED, HERE, PYTHON, World, to, virtual_service

HOST = "grpc-service"
RETRIES = CORRECTED / "virtualservice-retries.yaml"
# As retryOn names them.
CODES = {1: "cancelled", 4: "deadline-exceeded", 8: "resource-exhausted", 13: "internal", 14: "unavailable"}


def fails_once(world: World, code: int, retry_on: str) -> tuple[str, int]:
    """An RPC to three servers that fail their first call each: what the client sees, requests at the servers."""
    world.behave(code=code, first=1)
    with world.rules(virtual_service(HOST, {"route": [to(HOST)], "retries": {"attempts": 3, "retryOn": retry_on}})):
        result = world.greet(world.grpc_service.target, "--rpcs", 1)
    return errors(result), sum(world.requests())


def code_scenario(code: int) -> None:
    @scenario(f"retry on {code}, {CODES[code]}", "after 3 failures the 4th succeeds; not in retryOn: 1 request, the error")
    def retried(world: World) -> Seen:
        others = ",".join(name for number, name in CODES.items() if number != code)
        covered, alone = fails_once(world, code, CODES[code]), fails_once(world, code, others)
        text = f"{covered[1]} requests, {covered[0]}; not in retryOn: {alone[1]}, {alone[0]}"
        return Seen(text, covered == ("no error", 4) and alone[1] == 1 and alone[0] != "no error")


for number in CODES:
    code_scenario(number)


@scenario("retry after headers", "servers send headers, then fail with 14: the 4th attempt succeeds")
def after_headers(world: World) -> Seen:
    world.behave(code=14, first=1, headers=True)
    with world.rules(RETRIES):
        result = world.greet(world.grpc_service.target, "--rpcs", 1)
    requests = sum(world.requests())
    return Seen(f"{requests} requests, {errors(result)}", requests == 4 and not result["errors"])


@scenario("attempts 3", "an RPC that always fails: 4 requests at the servers; 10 of them: 40")
def attempts(world: World) -> Seen:
    found = []
    with world.rules(RETRIES):
        for rpcs in (1, 10):
            world.behave(code=14)
            result = world.greet(world.grpc_service.target, "--rpcs", rpcs)
            found.append((rpcs, sum(world.requests()), errors(result)))
    text = "; ".join(f"{requests} requests, {failed}" for _, requests, failed in found)
    return Seen(text, found == [(1, 4, "1 UNAVAILABLE"), (10, 40, "10 UNAVAILABLE")])


@scenario("perTryTimeout 2s", "1 of 3 servers is stuck: all RPCs succeed, its calls are cut after 2 s")
def per_try_timeout(world: World) -> Seen:
    world.v1.behave(hang=True)
    with world.rules(RETRIES):
        result = world.greet(world.grpc_service.target, "--rpcs", 60, "--concurrency", 30, "--deadline", 10)
    cut = sorted(world.v1.seen()["cut_after"])
    slowest = result["latency_ms"]["max"] or 0
    text = f"{result['ok']} of 60 succeed, the slowest in {slowest / 1000:.2f} s; {len(cut)} cut"
    text += f" after {cut[-1]:.2f} s" if cut else ""
    in_time = bool(cut) and 1.9 <= cut[0] and cut[-1] <= 2.3 and 2000 <= slowest <= 2800
    return Seen(text, result["ok"] == 60 and in_time)


@scenario("perTryTimeout, all are stuck", "4 requests, each cut after 0.3 s; DEADLINE_EXCEEDED after 1.2 to 1.9 s")
def all_stuck(world: World) -> Seen:
    """1.9: three waits of at most 75, 175 and 250 ms come on top."""
    policy = {"attempts": 3, "perTryTimeout": "300ms", "retryOn": "deadline-exceeded"}
    world.behave(hang=True)
    with world.rules(virtual_service(HOST, {"route": [to(HOST)], "retries": policy})):
        result = world.greet(world.grpc_service.target, "--rpcs", 1, "--deadline", 10)
    cut = [seconds for server in world.servers for seconds in server.seen()["cut_after"]]
    took = sum(error["ended"] - error["started"] for error in result["errors"])
    shortest, longest = min(cut, default=0), max(cut, default=0)
    text = f"{len(cut)} cut after {shortest:.2f} to {longest:.2f} s; {errors(result)} after {took:.2f} s"
    passed = len(cut) == 4 and 0.27 <= shortest and longest <= 0.5 and 1.2 <= took <= 1.9
    return Seen(text, passed and errors(result) == "1 DEADLINE_EXCEEDED")


@scenario("bidi, headers first", "a server that sends headers, then waits for the client: no deadlock")
def headers_first(world: World) -> Seen:
    done = world.client.run([PYTHON, HERE / "bidi_client.py", world.grpc_service.target])
    found = json.loads(done.stdout)
    text = f"headers after {found['headers_ms']} ms, {found['echoes']} messages came back"
    return Seen(text, found["headers_ms"] < 1000 and found["echoes"] == 3)
