"""Servers that end their connections, and ports of which nobody says what they speak."""

from scenario import Seen, errors, scenario
from world import MISSION, Server, World, mission_ports


@scenario("max_connection_age 1 s", "ample grace, 6 s of load: connections come and go, no RPC fails")
def connection_age(world: World) -> Seen:
    options = ["grpc.max_connection_age_ms=1000", "grpc.max_connection_age_grace_ms=20000"]
    aged = [Server(world.lab, f"aged-{number}", "v1", *options) for number in (1, 2)]
    with world.service("aged", *aged) as service:
        world.agent.wait_applied()
        load = ["--duration", 6, "--concurrency", 8, "--request", '{"seconds": 0.02}']
        result = world.greet(service.target, *load)
        connections = [len(server.seen()["connections"]) for server in aged]
    world.agent.wait_applied()
    for server in aged:
        server.pod.remove()
    text = f"{result['ok']} RPCs on {' and '.join(map(str, connections))} connections; {errors(result)}"
    return Seen(text, not result["errors"] and result["ok"] > 500 and min(connections) >= 4)


@scenario("api-port, nothing declared", "no detection yet: works as plain TCP, 1 server; a finding says declare it")
def undeclared_port(world: World) -> Seen:
    with world.lab.service("api-service", mission_ports("service-generic.yaml"), [s.pod for s in world.servers]) as service:
        world.agent.wait_applied()
        result = world.greet(service.target, "--rpcs", 60)
        found = [f"{f['code']} {f['fix']}" for f in world.findings("service-default-api-service.yaml")]
    world.agent.wait_applied()
    text = f"{errors(result)}, {len(result['backends'])} server; {'; '.join(found) or 'no finding'}"
    passed = not result["errors"] and len(result["backends"]) == 1 and any("WEIR0301 declare it" in f for f in found)
    return Seen(text, passed)
