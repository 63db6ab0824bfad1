"""Servers that end their connections, and ports of which nobody says what they speak."""

from scenario import Seen, errors, scenario, shorten
from world import Load, World, hold, mission_ports


@scenario("max_connection_age 1 s", "ample grace, 6 s of calls of 20 ms and 1.5 s: no RPC fails")
def connection_age(world: World) -> Seen:
    """The longer calls meet the end of every connection."""
    with world.service("aged", *world.aged) as service:
        with Load(world.client, service.target, "--concurrency", 8, "--deadline", 10, *hold(1.5)) as long:
            short = world.greet(service.target, "--duration", 6, "--concurrency", 8, *hold(0.02))
        connections = [len(server.seen()["connections"]) for server in world.aged]
    text = f"{short['ok']} and {long.result['ok']} RPCs, {' and '.join(map(str, connections))} connections; "
    text += errors({"errors": short["errors"] + long.result["errors"]})
    passed = short["ok"] > 500 and long.result["ok"] >= 24 and min(connections) >= 4 and text.endswith("no error")
    return Seen(text, passed)


@scenario("ports grpc-api and http2-web", "as the mission declares them: one connection reaches all 3 servers")
def declared_ports(world: World) -> Seen:
    """http2-web goes to the servers' gRPC port: what is asked is whether its calls are balanced."""
    (port,) = mission_ports("service-http2.yaml")
    port.target_port = 50051
    found = [len(world.greet(world.grpc_service.target, "--rpcs", 60)["backends"])]
    with world.service("http2-service", *world.servers, ports=[port]) as service:
        found.append(len(world.greet(service.target, "--rpcs", 60)["backends"]))
    return Seen(f"{found[0]} and {found[1]} servers", found == [3, 3])


@scenario("api-port, nothing declared", "detected: one connection reaches all 3 servers; a finding says declare it")
def undeclared_port(world: World) -> Seen:
    ports = mission_ports("service-generic.yaml")
    with world.service("api-service", *world.servers, ports=ports) as service:
        result = world.greet(service.target, "--rpcs", 60)
        found = [f"{f['code']} {f['fix']}" for f in world.findings(service.manifest.name, "WEIR0301")]
    text = f"{errors(result)}, {len(result['backends'])} servers; {shorten('; '.join(found), 42) or 'no finding'}"
    passed = not result["errors"] and len(result['backends']) == 3 and any("WEIR0301 declare it" in f for f in found)
    return Seen(text, passed)
