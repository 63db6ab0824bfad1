"""Watches that say nothing, or say it twice."""

import re
import threading
import time

import pytest
from faults import WATCH_SILENCE, follows, hang_up, refusal


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
