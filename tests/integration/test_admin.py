"""What operators look at: the admin socket, the metrics port, weirctl, the access log, the flags."""

import json
import re
import stat
import subprocess
import time

import pytest
from lab.agent import binary, pod_listener


def test_health_and_readiness(agent):
    assert agent.admin("/healthz")[0] == 200
    assert agent.admin("/readyz")[0] == 200
    assert agent.admin("/no-such-page")[0] == 404


def test_the_admin_socket_is_for_root_only(agent):
    mode = stat.S_IMODE((agent.run_dir / "admin.sock").stat().st_mode)
    assert mode & 0o077 == 0


def test_config_dump(agent, service, client, greeters):
    dump = json.loads(agent.admin("/config_dump")[1])
    assert dump["revision"] >= 1
    found = next(s for s in dump["services"] if s["name"] == "greeter")
    assert found["namespace"] == "default" and service.vip in found["vips"]
    port = found["ports"][0]
    assert (port["name"], port["port"], port["protocol"], port["mode"]) == ("grpc", 50051, "grpc", "l7")
    pod = next(p for p in dump["pods"] if p["name"] == "client")
    assert pod["dataplane"] == "enabled" and pod["uid"] == client.uid
    only = json.loads(agent.admin("/config_dump?service=default/greeter")[1])
    assert [s["name"] for s in only["services"]] == ["greeter"]


def test_pods(agent, client):
    found = agent.enrolment(client)
    assert found["state"] == "enrolled" and found["namespace"] == "default"
    assert found["listener_port"] == pod_listener(client) >= 61000
    assert 0 < found["enrolment_ms"] < 1000


def test_stats(agent, client, service):
    client.greet(service.target, "--rpcs", 10)
    stats = agent.stats()
    assert stats["pid"] == agent.pid and stats["ready"] and not stats["draining"]
    assert sum(worker["rpcs_total"] for worker in stats["workers"]) >= 10
    assert stats["bpf"]["diverted"] >= 1 and stats["bpf"]["handed_over"] >= 1
    assert stats["config"]["services"] == 1


def test_metrics(agent, client, service):
    client.greet(service.target, "--rpcs", 50)
    sample = next(
        labels
        for name, labels, value in agent.samples()
        if name == "istio_requests_total" and labels.get("grpc_response_status") == "0" and value >= 50
    )
    assert sample["reporter"] == "source"
    assert sample["request_protocol"] == "grpc"
    assert sample["destination_service"] == "greeter.default.svc.cluster.local"
    assert sample["destination_service_name"] == "greeter"
    assert sample["response_code"] == "200" and sample["response_flags"] == "-"
    names = {name for name, _, _ in agent.samples()}
    assert {"istio_request_duration_milliseconds_bucket", "istio_request_messages_total"} <= names
    assert any(name.startswith("weir_") for name in names)


def test_the_time_that_the_configuration_took_to_build_is_a_metric(agent):
    assert 0 < agent.metric("weir_config_build_seconds") < 1


def test_every_http2_limit_is_a_series_from_the_start(agent):
    series = [labels for name, labels, _ in agent.samples() if name == "weir_http2_limits_total"]
    limits = {labels["limit"] for labels in series}
    assert {"ping_flood", "rapid_reset", "continuation_flood", "flush_stall"} <= limits and len(limits) == 24
    floods = {labels["limit"] for labels in series if labels["action"] == "drain"}
    # For either role.
    assert len(series) == 2 * (len(limits) + len(floods)) and "rapid_reset" in floods and "flush_stall" not in floods


def test_metrics_are_well_formed(agent):
    for line in agent.metrics().splitlines():
        assert line.startswith("#") or re.fullmatch(r'[a-z_:][a-zA-Z0-9_:]*(\{.*\})? [-+0-9.eEInfNa]+', line), line


def test_weirctl_status_and_maps(agent, service, client):
    assert f"pid {agent.pid}" in agent.weirctl("status") and ", ready" in agent.weirctl("status")
    assert "10.96." in agent.weirctl("bpf", "services")
    rows = agent.bpf("services")
    assert {(row["address"], row["mode"]) for row in rows} >= {(service.target, "l7"), (service.target6, "l7")}
    assert [row["pod"] for row in agent.bpf("pods")] == ["default/client"]
    assert {row["name"]: row["count"] for row in agent.bpf("stats")}["diverted"] == agent.bpf_stat("diverted")


def test_weirctl_flows(agent, service, client):
    with client.connect(service.vip, 50051) as connection:
        source = connection.getsockname()
        flows = agent.bpf("flows")
        assert f"{service.vip}:50051" in {flow["destination"] for flow in flows}
        assert any(flow["source"].endswith(f":{source[1]}") for flow in flows)


def test_weirctl_reads_the_maps_of_a_dead_agent(lab, service, client, agent):
    agent.kill()
    assert any(row["address"] == service.target for row in agent.bpf("services"))
    assert agent.bpf("stats")
    agent.start()
    agent.wait_enrolled(client)


def test_the_access_log_has_failures(agent, lab, client):
    with lab.service("nobody") as nobody:
        agent.wait_applied()
        client.greet(nobody.target, "--rpcs", 1)

    def line():
        if not agent.access_log.exists():
            return None
        return next((text for text in agent.access_log.read_text().splitlines() if " UH " in text), None)

    text = agent.wait(line, 5, "the access log has the RPC")
    assert re.match(r'\[\d{4}-\d\d-\d\dT[\d:.]+Z\] "POST /weir.lab.Greeter/Hello HTTP/2" 200 UH ', text), text


def test_the_access_log_has_no_successes_by_default(agent, client, service):
    client.greet(service.target, "--rpcs", 20)
    text = agent.access_log.read_text() if agent.access_log.exists() else ""
    assert "via_upstream" not in text


def run(*arguments, **kwargs):
    return subprocess.run([binary("weir-agent"), *arguments], capture_output=True, text=True, timeout=20, **kwargs)


def test_help_explains():
    done = run("node", "--help")
    assert done.returncode == 0
    for flag in ("--manifests", "--node-name", "--drain-timeout", "--access-log", "--log-format"):
        assert flag in done.stdout


@pytest.mark.parametrize("arguments", [["node"], ["node", "--no-such-flag"], ["node", "--manifests", "/tmp", "--workers", "many"]])
def test_wrong_usage_is_64(arguments):
    done = run(*arguments)
    assert done.returncode == 64
    assert done.stderr


def test_a_second_agent_that_cannot_start_takes_nothing_over(agent):
    """Its metrics port is the other one's."""
    done = subprocess.run(
        ["nsenter", f"--net={agent.lab.netns}", *agent.argv], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL
    )
    assert done.returncode != 0
    time.sleep(0.2)
    assert agent.running and agent.admin("/readyz")[0] == 200
    assert len(agent.bpf("pods")) == 1


def test_environment_instead_of_flags(agent):
    """Every flag has an environment variable; --help names them."""
    text = run("node", "--help").stdout
    for name in ("WEIR_MANIFESTS", "WEIR_NODE_NAME", "WEIR_WORKERS", "WEIR_DRAIN_TIMEOUT"):
        assert name in text
