"""An API server that misbehaves: what was being served goes on being served, and when the server behaves again the
agent follows it again."""

import json
import math
import re
import time
from pathlib import Path

import pytest
from faults import FAULTS, follows, make_it_list, refusal

LIST_PEAK_MIB = 150  # of a list of 50 MB; 100 were measured


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
