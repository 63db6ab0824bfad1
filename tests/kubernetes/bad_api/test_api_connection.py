"""How the agent connects to the API server, and what it says of itself and of the connection."""

import re

from fake_api import FakeApi
from lab.certificates import Authority
from lab.control_plane import write_kubeconfig


def test_an_authority_that_is_renewed(lab, api, agent, client, service, greeters, authority, tmp_path):
    """The server's certificate is another authority's one day, and so is the file that the kubeconfig names. In between the
    agent believes neither, and says so."""
    agent.stop()
    trusted = lab.folder / "renewed-ca.crt"
    trusted.write_bytes(authority.certificate.read_bytes())
    newer = Authority(tmp_path)
    with FakeApi(lab.netns, authority.sign("old", "/CN=fake", "IP:127.0.0.1")) as server:
        for key, objects in api.published().items():
            server.publish(key, *objects)
        cluster = {"server": server.url, "certificate_authority": trusted}
        kubeconfig = write_kubeconfig(lab.folder / "renewed.kubeconfig", cluster, {"token": "secret"})
        other = lab.agent(kubeconfig=kubeconfig)
        other.start(timeout=30)
        server.tls.load_cert_chain(*newer.sign("new", "/CN=fake", "IP:127.0.0.1"))
        server.drop_connections()
        other.wait(lambda: re.search("services of .* certificate", other.log_tail(100)), 20, "it is not believed")
        assert other.metric("weir_kubernetes_followed", resource="services") == 0 and other.ready()
        trusted.write_bytes(newer.certificate.read_bytes())
        other.wait(lambda: other.metric("weir_kubernetes_followed", resource="services") == 1, 60, "it is believed")
        other.stop()
    agent.start(timeout=30)
    agent.wait_enrolled(client)
    agent.wait_applied()


def test_a_server_without_tls(lab, api, agent, client, service, greeters):
    """As `kubectl proxy` is one. Without TLS there is no HTTP/2 either, and each watch has a connection of its own."""
    agent.stop()
    with FakeApi(lab.netns) as plain:
        for key, objects in api.published().items():
            plain.publish(key, *objects)
        other = lab.agent(kubeconfig=write_kubeconfig(lab.folder / "plain.kubeconfig", {"server": plain.url}, {}))
        other.start(timeout=30)
        other.wait_applied()
        other.wait_enrolled(client)
        client.wait_backends(service.target, 3)
        other.stop()
    agent.start(timeout=30)
    agent.wait_enrolled(client)
    agent.wait_applied()


def test_what_the_agent_says_of_itself(api, agent):
    """The token of the kubeconfig with every request, and who asks."""
    requests = api.asked("endpointslices")
    assert all(r.headers.get("authorization") == "Bearer secret" for r in requests)
    assert all(r.headers.get("user-agent", "").startswith("weir-agent") for r in requests)


def test_metrics_tell_of_the_source(api, agent):
    assert agent.metric("weir_kubernetes_requests_total", code="200") > 0
    assert 0 <= agent.metric("weir_kubernetes_last_contact_seconds", resource="services") < 60
    assert agent.metric("weir_kubernetes_followed", resource="services") == 1
    assert "watching" in agent.weirctl("status")
