"""An API server that misbehaves: what was being served goes on being served, and when the server behaves again the
agent follows it again."""

import json
import math
import re
import socket
import threading
import time
from pathlib import Path

import pytest
from fake_api import FakeApi
from lab.certificates import Authority
from lab.control_plane import write_kubeconfig

MIB = 1 << 20
LIST_PEAK_MIB = 150  # of a list of 50 MB; 100 were measured
WATCH_SILENCE = 5  # seconds; the server's bookmarks come every second


@pytest.fixture(scope="module")
def authority(lab):
    folder = lab.folder / "authority"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture(scope="module")
def api(lab, authority):
    """A scripted API server that holds the lab's objects."""
    certificate = authority.sign("server", "/CN=fake", "IP:127.0.0.1")
    with FakeApi(lab.netns, certificate) as started:
        lab.objects = started
        lab.namespace("default")
        yield started


@pytest.fixture(scope="module")
def kubeconfig(lab, api, authority):
    cluster = {"server": api.url, "certificate_authority": authority.certificate}
    return write_kubeconfig(lab.folder / "fake.kubeconfig", cluster, {"token": "secret"})


@pytest.fixture(scope="module")
def agent(lab, api, service, client, kubeconfig):
    started = lab.agent(kubeconfig=kubeconfig, arguments=["--watch-silence", f"{WATCH_SILENCE}s"])
    started.start(timeout=30)
    started.wait_enrolled(client)
    started.wait_applied()
    return started


@pytest.fixture
def impatient(agent, client):
    """Begun anew: what earlier tests did to it makes an agent wait longer after each failure, up to half a minute."""
    agent.stop()
    agent.start(timeout=30)
    agent.wait_enrolled(client)
    agent.wait_applied()


def follows(agent, client, service, greeters, timeout=40):
    """Whether a change of endpoints counts, and then again the one that undoes it."""
    for ready, count in ((False, 2), (True, 3)):
        service.set_ready(greeters[0], ready)
        agent.wait_applied(timeout=timeout)
        client.wait_backends(service.target, count)


def make_it_list(api, agent, resource):
    """410 Gone once, so that the agent begins anew."""
    began = time.monotonic()
    with api.fault(refusal(410, "Expired", "too old resource version"), resource):
        agent.wait(lambda: api.asked(resource, began), 20, f"{resource} are asked for")


# ---- answers to every request


def refusal(code, reason, message="", **headers):
    return lambda exchange: exchange.refuse(code, reason, message or reason, **headers)


def html(exchange):
    exchange.reply(200, b"<html><body>Please sign in to the guest network.</body></html>", "text/html")


def truncated(exchange):
    """The length is that of the whole, the bytes are half of it, and the connection ends."""
    body = json.dumps(exchange.page()).encode()
    exchange.send_response(200)
    exchange.send_header("Content-Length", str(len(body)))
    exchange.end_headers()
    exchange.wfile.write(body[: len(body) // 2])
    exchange.close_connection = True


def half_a_list(exchange):
    """Half of the bytes, as if that were all."""
    body = json.dumps(exchange.page()).encode()
    exchange.reply(200, body[: len(body) // 2])


def nothing(exchange):
    exchange.reply(200, b"")


def hang_up(exchange):
    exchange.connection.shutdown(socket.SHUT_RDWR)
    exchange.close_connection = True


def nonsense(exchange):
    exchange.connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    exchange.close_connection = True


def wrong_kind(exchange):
    exchange.reply(200, json.dumps({"kind": "PodList", "apiVersion": "v1", "items": {"not": "a list"}}).encode())


def cut_event(exchange):
    """A watch (whatever was asked for) that ends in the middle of an event."""
    exchange.begin_stream()
    exchange.chunk(b'{"type":"MODIFIED","object":{"kind":"EndpointSlice","metadata":{"na')
    hang_up(exchange)


def error_event(exchange):
    exchange.begin_stream()
    exchange.event("ERROR", {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd: no leader"})
    exchange.chunk(b"")


def unknown_events(exchange):
    exchange.begin_stream()
    exchange.chunk(b'{"type":"RENAMED","object":[]}\n{"type":7}\nnull\n[]\n"x"\n')
    exchange.chunk(b"")


def endless_event(exchange):
    """Of 32 MiB, without a newline."""
    exchange.begin_stream()
    exchange.chunk(b'{"type":"ADDED","object":{"metadata":{"name":"')
    for _ in range(32):
        exchange.chunk(b"x" * MIB)
    exchange.chunk(b"")


def deep(exchange):
    exchange.reply(200, b'{"items":' + b"[" * 100_000)


FAULTS = {
    "401": refusal(401, "Unauthorized"),
    "403": refusal(403, "Forbidden", "endpointslices is forbidden"),
    "404": refusal(404, "NotFound", "the server could not find the requested resource"),
    "410": refusal(410, "Expired", "too old resource version"),
    "429": refusal(429, "TooManyRequests", Retry_After=1),
    "500": refusal(500, "InternalError"),
    "503 without words": lambda exchange: exchange.reply(503, b""),
    **{f.__name__: f for f in (html, truncated, half_a_list, nothing, hang_up, nonsense, wrong_kind, cut_event)},
    **{f.__name__: f for f in (error_event, unknown_events, endless_event, deep)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_answer_is_bad(impatient, api, agent, client, service, greeters, load, fault):
    """For a few attempts of each resource, then all is well."""
    began = time.monotonic()
    with api.fault(FAULTS[fault]):
        for resource in ("endpointslices", "services", "pods"):
            agent.wait(lambda: len(api.asked(resource, began)) >= 3, 20, f"{resource} were asked for thrice")
        assert agent.ready()
        client.wait_backends(service.target, 3)
        assert agent.enrolment(client)["state"] == "enrolled"
        attempts = len(api.asked("endpointslices", began))
        assert attempts <= 3 + 4 * (time.monotonic() - began), "the agent is not patient"
    follows(agent, client, service, greeters)


@pytest.mark.parametrize("fault", ["401", "403", "500", "html", "truncated", "hang_up", "nonsense"])
def test_bad_answers_to_an_agent_that_starts(lab, api, agent, client, service, greeters, kubeconfig, fault):
    """It is not ready, and says why, until it has heard everything."""
    words = {"401": "401", "403": "403", "500": "500", "html": "", "truncated": "", "hang_up": "", "nonsense": ""}
    agent.stop()
    with api.fault(FAULTS[fault], "endpointslices"):
        agent.start(ready=False)
        agent.wait(lambda: not_ready_for(agent, "endpointslices", words[fault]), 20, "/readyz names the resource and the answer")
        time.sleep(1)
        assert not agent.ready()
    agent.wait(agent.ready, 40, "the agent is ready")
    agent.wait_enrolled(client)
    agent.wait_applied()
    follows(agent, client, service, greeters)


def not_ready_for(agent, *words):
    try:
        status, body = agent.admin("/readyz")
    except OSError:
        return False
    return status == 503 and all(word in body for word in words)


def test_retry_after_is_obeyed(impatient, api, agent, client, service, greeters, load):
    began = time.monotonic()
    with api.fault(refusal(429, "TooManyRequests", Retry_After=4), "services"):
        agent.wait(lambda: len(api.asked("services", began)) >= 3, 20, "services were asked for thrice")
    times = [request.at for request in api.asked("services", began)][:3]
    assert all(later - earlier >= 3.9 for earlier, later in zip(times, times[1:]))
    follows(agent, client, service, greeters)


def test_a_server_without_watch_lists(api, agent, client, service, greeters, load):
    """Then the list comes in pages."""
    began = time.monotonic()
    api.watch_lists = False
    try:
        make_it_list(api, agent, "endpointslices")
        follows(agent, client, service, greeters)
        listed = [r for r in api.asked("endpointslices", began) if not r.watches]
        assert listed and listed[-1].query["limit"] == "500"
    finally:
        api.watch_lists = True


def without_watch_lists(page):
    """A server that has none, and answers a list by `page`."""

    def answer(exchange):
        if exchange.query.get("sendInitialEvents"):
            return exchange.refuse(400, "BadRequest", "no such parameter")
        return exchange.behave() if exchange.watches else page(exchange)

    return answer


def test_a_list_of_pages_of_one(api, agent, client, service, greeters, load):
    """A server may give less than it is asked for; what is on the later pages counts as well."""

    def one(exchange):
        exchange.query["limit"] = "1"
        exchange.list()

    began = time.monotonic()
    with api.fault(without_watch_lists(one), "endpointslices"):
        make_it_list(api, agent, "endpointslices")
        follows(agent, client, service, greeters)
        assert any("continue" in r.query for r in api.asked("endpointslices", began))


def test_a_list_of_50_mb(api, agent, client, service, greeters, load):
    """Of Services that concern nobody. It is read to its end, and forgotten when they are gone."""
    sent_at = math.inf

    def large(exchange):
        nonlocal sent_at
        page = exchange.page()
        note = {"note": "x" * 1000}
        page["items"] += [
            {"metadata": {"name": f"large-{i}", "namespace": "large", "annotations": note}, "spec": {"type": "ExternalName"}}
            for i in range(50_000)
        ]
        body = json.dumps(page).encode()
        assert len(body) > 50_000_000
        sent_at = time.monotonic()
        exchange.reply(200, body)

    Path(f"/proc/{agent.pid}/clear_refs").write_text("5")  # the peak counts from here
    before, revision = peak_mib(agent.pid), agent.metric("weir_config_revision")
    with api.fault(without_watch_lists(large), "services"):
        make_it_list(api, agent, "services")
        agent.wait(lambda: [r for r in api.asked("services", sent_at) if r.query.get("resourceVersion")], 60, "the list was read")
        agent.wait(lambda: agent.metric("weir_config_revision") > revision, 20, "the list is applied")
        peak = peak_mib(agent.pid) - before  # what follows asks for dumps of it all
        follows(agent, client, service, greeters)
    print(f"a list of 50 MB took {peak:.0f} MiB at its peak")
    assert peak <= LIST_PEAK_MIB
    make_it_list(api, agent, "services")
    follows(agent, client, service, greeters)


def peak_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def test_watches_that_stall(api, agent, client, service, greeters, load):
    """The server takes the requests, sends a list, and then not one byte. The agent asks again by itself."""
    over = threading.Event()

    def stall(exchange):
        if not exchange.watches:
            return exchange.behave()
        exchange.begin_stream()
        exchange.initial_events()
        over.wait(60)
        return hang_up(exchange)

    with api.fault(stall, "endpointslices"):
        begun = time.monotonic()
        agent.wait(lambda: api.asked("endpointslices", begun), 20, "the watch is begun")
        first = len(api.asked("endpointslices", begun))
        service.set_ready(greeters[0], False)  # nobody tells
        agent.wait(lambda: len(api.asked("endpointslices", begun)) > first, 3 * WATCH_SILENCE, "the watch is given up")
        assert time.monotonic() - begun > WATCH_SILENCE / 2
        assert agent.ready()
        # Six watches in a row that say nothing, up to 24 s of patience between them, and a list.
        agent.wait_applied(timeout=6 * WATCH_SILENCE + 24 + 6)
        service.set_ready(greeters[0], True)
        over.set()
    agent.wait_applied(timeout=40)
    follows(agent, client, service, greeters)


@pytest.mark.parametrize("drop", [b" ", b"\n"])
def test_watches_that_drip(impatient, api, agent, client, service, greeters, load, drop):
    """They are never silent, and never say anything. That is not patience's due."""

    def drip(exchange):
        if not exchange.watches:
            return exchange.behave()
        exchange.begin_stream()
        exchange.initial_events()
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            exchange.chunk(drop)
            time.sleep(0.2)
        return hang_up(exchange)

    with api.fault(drip, "endpointslices"):
        begun = time.monotonic()
        agent.wait(lambda: api.asked("endpointslices", begun), 20, "the watch is begun")
        first = len(api.asked("endpointslices", begun))
        agent.wait(lambda: len(api.asked("endpointslices", begun)) > first, 3 * WATCH_SILENCE, "the watch is given up")
        assert time.monotonic() - begun > WATCH_SILENCE / 2
    follows(agent, client, service, greeters)


def test_a_watch_that_has_begun_is_followed(impatient, api, agent, load):
    """Whatever was wrong before it, and though nothing happens for long."""
    over = threading.Event()

    def quiet(exchange):
        if not exchange.watches:
            return exchange.behave()
        exchange.begin_stream()
        over.wait(30)
        return hang_up(exchange)

    def followed():
        return agent.metric("weir_kubernetes_followed", resource="services")

    with api.fault(refusal(500, "InternalError"), "services"):
        agent.wait(lambda: followed() == 0, 20, "it is seen that they are not followed")
        with api.fault(quiet, "services"):
            agent.wait(lambda: followed() == 1, WATCH_SILENCE - 1, "they are followed again")
            over.set()


def test_the_age_of_what_was_heard(impatient, api, agent, client, service, greeters, load):
    """While nobody answers it grows, for each resource, also those that are not there; nothing else changes."""

    def ages():
        resources = ("services", "endpointslices", "local pods", "virtualservices", "authorizationpolicies")
        return [agent.metric("weir_kubernetes_last_contact_seconds", resource=resource) for resource in resources]

    agent.wait(lambda: min(ages()) >= 0, 20, "all is heard of once")
    began = time.monotonic()
    with api.fault(hang_up):
        agent.wait(lambda: min(ages()) > 4, 20, "all that was heard is old")
        assert int(re.search(r"last heard of (\d+) s ago", agent.admin("/readyz")[1])[1]) >= 4
        assert max(ages()) <= time.monotonic() - began + 3, "bookmarks came every second before"
        assert agent.ready()
        assert "watching" not in agent.weirctl("status")
    agent.wait(lambda: 0 <= max(ages()) < 3, 40, "all is heard of again")
    follows(agent, client, service, greeters)


def test_events_that_come_twice_or_late(api, agent, client, service, greeters, load):
    """A server's repetitions change nothing; an older version that comes after a newer one is what the server says now."""
    (newest, _) = service.slices()
    for _ in range(3):
        api.emit("MODIFIED", newest)
        api.emit("ADDED", newest)
    gone = {**newest, "metadata": {**newest["metadata"], "name": "never-there"}}
    api.emit("DELETED", gone)
    api.emit("DELETED", gone)
    api.emit("MODIFIED", newest, revision=1)
    follows(agent, client, service, greeters)


BAD_OBJECTS = {
    "an address that is none": lambda s: s["endpoints"][0].update(addresses=["10.244.0.999"]),
    "endpoints that are no list": lambda s: s.update(endpoints="none"),
    "a port that is a word": lambda s: s["ports"][0].update(port="http"),
    "a port out of range": lambda s: s["ports"][0].update(port=70000),
    "conditions that are numbers": lambda s: s["endpoints"][0].update(conditions={"ready": 7}),
    "labels that are a list": lambda s: s["metadata"].update(labels=["x"]),
    "ports that are null": lambda s: s.update(ports=[None]),
}


@pytest.mark.parametrize("damage", BAD_OBJECTS)
def test_a_malformed_object(api, agent, client, service, greeters, load, damage):
    """It alone is refused, with a finding, and its last good version stays; its neighbours count."""
    published = json.loads(json.dumps(service.slices()))
    BAD_OBJECTS[damage](published[0])
    api.publish(service.slices_key, *published)
    agent.wait(lambda: finding_on(agent, published[0]["metadata"]["name"]), 5, "there is a finding")
    client.wait_backends(service.target, 3)
    service.publish()
    agent.wait(lambda: not finding_on(agent, published[0]["metadata"]["name"]), 5, "the finding is gone")
    follows(agent, client, service, greeters)


def finding_on(agent, name):
    findings = json.loads(agent.admin("/config_dump")[1])["findings"]
    return [finding for finding in findings if name in finding["object"]]


@pytest.mark.timeout(240)
def test_missing_crds_are_asked_for_again(impatient, api, agent, client, service, greeters, load):
    """404: there are no such objects, and that is no fault; they count from when they can be had."""
    group = "networking.istio.io"
    missing = ("virtualservices", "destinationrules", "gateways")
    # What was never there is believed missing at once.
    agent.wait(lambda: all(agent.metric("weir_kubernetes_synced", resource=r) == 1 for r in missing), 10, "they are there")
    began = time.monotonic()
    with api.fault(FAULTS["404"], *missing, group):
        agent.wait(lambda: len(api.asked(group, began)) >= 2, 100, "their group was asked for twice")
        for resource in missing:
            versions = len(api.asked(resource, began))
            assert versions == 5 * 3, f"{resource}: each version is asked for five times over some seconds, and then the group"
        assert agent.ready()
        assert agent.metric("weir_kubernetes_last_contact_seconds", resource="virtualservices") < 1 + time.monotonic() - began
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "rule", "namespace": "default"},
        "spec": {"hosts": ["ruled"], "http": [{"directResponse": {"status": 418}}]},
    }
    with service.lab.service("ruled", pods=greeters) as ruled:
        api.publish("rule", rule)
        agent.wait(lambda: client.greet(ruled.target, "--rpcs", 1)["errors"], 60, "the rule is obeyed")
        api.withdraw("rule")
        agent.wait(lambda: not client.greet(ruled.target, "--rpcs", 1)["errors"], 5, "the rule is gone")


def policy(kind, **spec):
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": kind.lower(), "namespace": "default"},
        "spec": spec,
    }


def test_security_policies_are_loud(impatient, api, agent, load):
    """weir enforces none of them; each is a finding and an error in the log, as those in files are. They may be listed or
    come while they are watched."""
    deny = policy("AuthorizationPolicy", action="DENY", rules=[{}])
    strict = policy("PeerAuthentication", mtls={"mode": "STRICT"})
    token = policy("RequestAuthentication", jwtRules=[{"issuer": "x"}])
    gateway = {**policy("Gateway", servers=[]), "apiVersion": "networking.istio.io/v1"}
    names = ("authorizationpolicy", "peerauthentication", "requestauthentication")
    expected = dict.fromkeys(names, "WEIR0202") | {"gateway": "WEIR0201"}

    def told():
        return {name: found[0]["code"] for name in expected if (found := finding_on(agent, f"/{name}"))}

    def followed():
        """Kinds that were missing a moment ago (an earlier test) are asked for again one after the other."""
        kinds = ("authorizationpolicies", "peerauthentications", "requestauthentications", "gateways")
        agent.wait(lambda: all(agent.metric("weir_kubernetes_followed", resource=kind) for kind in kinds), 60, "all are followed")

    followed()
    api.publish("policies", deny, strict, token, gateway)
    agent.wait(lambda: told() == expected, 5, "each is told")
    line = "WEIR0202 AuthorizationPolicy default/authorizationpolicy: AuthorizationPolicy is NOT enforced"
    agent.wait(lambda: line in agent.log_tail(100), 5, "it is in the log")
    agent.stop()
    agent.start(timeout=30)
    followed()
    agent.wait(lambda: told() == expected, 5, "each is told from the start")
    api.publish("policies", policy("PeerAuthentication", mtls={"mode": "PERMISSIVE"}), deny)
    agent.wait(lambda: told() == {"authorizationpolicy": "WEIR0202", "peerauthentication": "WEIR0203"}, 5, "what has gone is not told")
    api.withdraw("policies")
    agent.wait(lambda: not told(), 5, "nothing is told")


def test_policies_that_may_not_be_read(api, agent, client, service, greeters):
    """As with the rights of an older chart: it is said, and nothing waits for it."""
    agent.stop()
    with api.fault(refusal(403, "Forbidden", "peerauthentications is forbidden"), "peerauthentications"):
        agent.start(timeout=30)
        agent.wait(lambda: "peerauthentications is forbidden" in agent.log_tail(100), 10, "it is in the log")
        assert agent.metric("weir_kubernetes_followed", resource="peerauthentications") == 0
        agent.wait_enrolled(client)
        agent.wait_applied()
        follows(agent, client, service, greeters)


def test_the_meshs_configuration(api, agent, client, greeters, service):
    """The ConfigMap istio of istio-system, and no other one: here it says whom rules without exportTo are for."""
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "rule", "namespace": "another"},
        "spec": {"hosts": ["meshed.default.svc.cluster.local"], "http": [{"directResponse": {"status": 418}}]},
    }

    def mesh(text, name="istio"):
        metadata = {"name": name, "namespace": "istio-system"}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": text}}

    def obeyed():
        return bool(client.greet(meshed.target, "--rpcs", 1)["errors"])

    own = 'defaultVirtualServiceExportTo: ["."]\n'
    with service.lab.service("meshed", pods=greeters) as meshed:
        api.publish("rule", rule)
        agent.wait(obeyed, 10, "the rule is obeyed")
        api.publish("mesh", mesh(own, "another"))
        time.sleep(0.5)
        assert obeyed()
        api.publish("mesh", mesh(own))
        agent.wait(lambda: not obeyed(), 10, "the rule is for its own namespace")
        api.publish("mesh", mesh("defaultVirtualServiceExportTo: ["))
        agent.wait(lambda: finding_on(agent, "istio-system/istio"), 5, "there is a finding")
        assert not obeyed(), "the last good one stays"
        api.withdraw("mesh")
        agent.wait(obeyed, 10, "without it rules are for all")
        api.withdraw("rule")


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
