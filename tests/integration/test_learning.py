"""What was learned of undeclared ports, as Services and agents follow each other, and what that says of a pod's connections."""

import json

import pytest
from lab.service import Port
from test_adopt import METRIC, adopt, echoes, older, unmanaged
from test_relay import Echo


@pytest.fixture(scope="module")
def echo(lab):
    pod = lab.pod("echo")
    server = Echo(pod, 7000)
    server.pod = pod
    yield server
    server.close()


def test_undeclared_ports_count_until_they_are_learned(lab, echo):
    """From then on a pod's connections may have passed by the agent on purpose."""
    agent = lab.agent(arguments=["--learn-after", "3", "--verdict-lifetime", "3s", "--verdict-sample", "0"])
    agent.start()
    with lab.service("undeclared", ports=[Port("api-port", 7000, 7000)], pods=[echo.pod]) as service:
        with older(lab, agent, *[(service.vip, 7000)] * 2) as (pod, connections):
            agent.wait_applied()
            agent.wait(lambda: len(unmanaged(agent, "late")) == 2, 5, "they are listed")
            agent.wait(lambda: agent.metric(METRIC, source_pod="late") == 2, 15, "they are counted")
            # Whoever names a pod hardly means its databases.
            assert set(adopt(agent, "--pod", "late", "--yes", "--active").values()) == {"undeclared"}
            first = adopt(agent, "--pod", "late", "--service", "undeclared", "--yes", "--active", "--limit", 1)
            assert sorted(first.values()) == ["closed", "limit"]
            for _ in range(3):
                with pod.connect(service.vip, 7000) as again:
                    assert echoes(again)
            agent.wait(lambda: "not diverted" in agent.weirctl("why", "late", "undeclared:7000"), 2, "a verdict")
            with pod.connect(service.vip, 7000) as passed:
                assert echoes(passed)
                assert unmanaged(agent, "late") == []
                agent.wait(lambda: ": diverted" in agent.weirctl("why", "late", "undeclared:7000"), 8, "it is over")
                assert unmanaged(agent, "late") == [], "what has passed by is none, now that the verdict is over"
                assert agent.stop() == 0
                # Another agent, which learns nothing: it would divert all of them.
                agent = lab.agent(arguments=["--learn-after", "0"])
                agent.start()
                agent.wait_enrolled(pod)
                agent.wait_applied()
                agent.wait(lambda: len(unmanaged(agent, "late")) == 2, 5, "everything counts")
    assert agent.stop() == 0


def test_what_an_earlier_agent_has_learned_does_not_hold_for_one_that_learns_nothing(lab, echo):
    with lab.pod("pod", dataplane="enabled") as pod, lab.service(
        "undeclared", ports=[Port("api-port", 7000, 7000)], pods=[echo.pod]
    ) as service:
        agent = lab.agent(arguments=["--verdict-sample", "0"])
        agent.start()
        agent.wait_enrolled(pod)
        agent.wait_applied()

        def dial(expected):
            before = agent.bpf_stat("diverted")
            with pod.connect(service.vip, 7000) as connection:
                assert echoes(connection)
            assert agent.bpf_stat("diverted") - before == expected

        for _ in range(3):
            dial(1)
        agent.wait(lambda: "not diverted" in agent.weirctl("why", "pod", "undeclared:7000"), 2, "a verdict")
        dial(0)
        assert agent.stop() == 0
        agent = lab.agent(arguments=["--learn-after", "0"])
        agent.start()
        agent.wait_enrolled(pod)
        agent.wait_applied()
        dial(1)
        assert agent.stop() == 0


def test_what_is_learned_of_an_address_ends_with_its_service(lab, echo):
    """The next connection to what is another Service's by now goes through the agent, not only a sample."""
    with lab.pod("pod", dataplane="enabled") as pod:
        agent = lab.agent(arguments=["--verdict-sample", "0"])
        agent.start()
        agent.wait_enrolled(pod)
        with lab.service("turns", ports=[Port("api-port", 7000, 7000)], pods=[echo.pod]) as service:
            agent.wait_applied()
            for _ in range(3):
                with pod.connect(service.vip, 7000) as connection:
                    assert echoes(connection)
            agent.wait(lambda: "not diverted" in agent.weirctl("why", "pod", "turns:7000"), 2, "a verdict")
            service.name = "next"  # the same address
            lab.objects.withdraw("service-default-turns")
            lab.objects.withdraw("endpointslice-default-turns")
            service.publish()
            agent.wait_applied()
            agent.wait(lambda: ": diverted (detect" in agent.weirctl("why", "pod", "next:7000"), 5, "it is forgotten")
            assert json.loads(agent.weirctl("verdicts", "list", "-o", "json")) == []
        assert agent.stop() == 0
