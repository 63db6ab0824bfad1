"""The agent with API servers: the lab's objects go to one, and the agent asks it."""

import sys
from pathlib import Path

import pytest

for folder in ("integration", "chart"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / folder))

from lab.control_plane import ControlPlane  # noqa: E402
from rights import RULES  # noqa: E402


@pytest.fixture(scope="module")
def plane(lab):
    """A control plane that holds the lab's objects, and a ServiceAccount weir that may read them."""
    with ControlPlane(lab) as started:
        lab.objects = started.objects()
        lab.namespace("default")
        started.service_account("weir", RULES)
        yield started


@pytest.fixture(scope="module")
def api(plane):
    """Where the lab's objects are: a module may put another in its place."""
    return plane


@pytest.fixture(scope="module")
def greeters(lab, api):
    """Three pods that each run a greeter server."""
    return lab.greeters(3)


@pytest.fixture(scope="module")
def client(lab, api):
    """A pod that asks for weir by its label."""
    return lab.pod("client", dataplane="enabled")


@pytest.fixture(scope="module")
def agent(lab, plane, service, client):
    """An agent that has enrolled the client and applied the service, as the API server tells them."""
    token = plane.folder / "agent.token"
    token.write_text(plane.token("weir"))
    started = lab.agent(kubeconfig=plane.kubeconfig("weir", tokenFile=token))
    started.start()
    started.wait_enrolled(client)
    started.wait_applied()
    return started


@pytest.fixture
def load(agent, client, service):
    """RPCs on one connection for the length of the test; none may fail, and all three servers answer."""
    process = client.start_greet(service.target, "--concurrency", 2, "--rate", 200)
    agent.wait_served(20)
    yield process
    result = client.finish_greet(process)
    assert result["errors"] == []
    assert len(result["backends"]) == 3
