"""A scripted API server, and an agent that asks it."""

import pytest
from fake_api import FakeApi
from faults import WATCH_SILENCE
from lab.certificates import Authority
from lab.control_plane import write_kubeconfig


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
def arguments():
    """The agent's, beside its kubeconfig."""
    return ["--watch-silence", f"{WATCH_SILENCE}s"]


@pytest.fixture(scope="module")
def agent(lab, api, service, client, kubeconfig, arguments):
    started = lab.agent(kubeconfig=kubeconfig, arguments=arguments)
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
