"""What an API server lets the agent do: tokens that end and are renewed, rights that lack, certificates."""

import base64
import json
import re
from pathlib import Path

import pytest
from lab.api_client import path_of
from lab.certificates import Authority
from lab.control_plane import write_kubeconfig
from rights import RULES


@pytest.fixture
def own_agent(lab, plane, service, client):
    """Starts an agent with a kubeconfig's user; it is ended with the test."""
    agents = []

    def start(ready=True, **user):
        agents.append(lab.agent(kubeconfig=plane.kubeconfig("own", **user)))
        agents[-1].start(ready=ready)
        return agents[-1]

    yield start
    for agent in agents:
        if agent.running:
            agent.stop()
        agent.uninstall()


def serves_all(agent, client, service):
    agent.wait_enrolled(client)
    agent.wait_applied(timeout=20)
    result = client.greet(service.target, "--rpcs", 60)
    assert result["errors"] == []
    return len(result["backends"]) == 3


def wait_reason(agent, *words, timeout=10):
    """The body of /readyz, once it is 503 and has all the words."""

    def found():
        try:
            status, body = agent.admin("/readyz")
        except OSError:
            return None
        return body if status == 503 and all(word in body for word in words) else None

    return agent.wait(found, timeout, f"/readyz is 503 and says {words}")


def test_rights_that_lack(plane, own_agent, client, service):
    """What may not be read is named, in /readyz and in the log, until it may."""
    rules = [rule for rule in RULES if "endpointslices" not in rule["resources"]]
    plane.service_account("short", rules)
    agent = own_agent(ready=False, token=plane.token("short"))
    reason = wait_reason(agent, "endpointslices", "403")
    assert "services" not in reason.replace("endpointslices", ""), "what may be read is not complained of"
    assert re.search(r'endpointslices.*403.*system:serviceaccount:default:short.*cannot (list|watch)', agent.log_tail(100))
    plane.service_account("short", RULES)
    agent.wait(agent.ready, 40, "the agent is ready")
    assert serves_all(agent, client, service)


def test_a_right_that_is_taken_away(plane, own_agent, client, service, greeters):
    """What was heard goes on being served; given back, it is followed again."""
    plane.service_account("robbed", RULES)
    agent = own_agent(token=plane.token("robbed"))
    assert serves_all(agent, client, service)
    plane.service_account("robbed", [])
    plane.stop_api_server()  # a watch that runs is not asked for its rights again
    plane.start_api_server()
    agent.wait(lambda: "403" in agent.log_tail(200), 40, "the refusal is in the log")
    assert agent.ready()
    client.wait_backends(service.target, 3)
    plane.service_account("robbed", RULES)
    service.set_ready(greeters[0], False)
    agent.wait_applied(timeout=60)
    service.set_ready(greeters[0], True)
    agent.wait_applied()


def test_a_token_that_ends_and_is_renewed(plane, own_agent, client, service, greeters):
    """As kubelet does it: the file is rewritten. In between the server refuses the old token, and all goes on."""
    secret = plane.client.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "life", "namespace": "default"}})
    token = plane.folder / "rotated.token"
    token.write_text(plane.token("weir", bound_to=secret))
    agent = own_agent(tokenFile=token)
    assert serves_all(agent, client, service)
    plane.client.delete(secret)
    plane.stop_api_server()
    plane.start_api_server()
    agent.wait(lambda: "401" in agent.log_tail(200), 40, "the refusal is in the log")
    assert agent.ready()
    client.wait_backends(service.target, 3)
    token.write_text(plane.token("weir"))
    service.set_ready(greeters[0], False)
    agent.wait_applied(timeout=60)
    service.set_ready(greeters[0], True)
    agent.wait_applied()


def test_a_token_that_was_never_good(plane, own_agent):
    wait_reason(own_agent(ready=False, token="nobody's"), "401", "Unauthorized")


def test_a_certificate_for_a_user(plane, own_agent, client, service):
    certificate, key = plane.authority.sign("person", "/O=system:masters/CN=person")
    files = {"client_certificate": certificate, "client_key": key}
    agent = own_agent(**files)
    assert serves_all(agent, client, service)
    agent.stop()
    inline = {f"{name}_data": base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    assert serves_all(own_agent(**inline), client, service)


def test_an_authority_that_did_not_sign(lab, plane, own_agent):
    """The server is who it says only if the kubeconfig's authority says so."""
    (plane.folder / "stranger").mkdir()
    cluster = {"server": plane.server, "certificate_authority": Authority(plane.folder / "stranger").certificate}
    path = write_kubeconfig(plane.folder / "stranger.kubeconfig", cluster, {"token": plane.token("weir")})
    agent = lab.agent(kubeconfig=path)
    agent.start(ready=False)
    try:
        wait_reason(agent, "certificate")
    finally:
        agent.stop()


def test_metadata_alone_is_what_the_server_sends(plane):
    """By the very headers that the agent sends: a server that does not know a form sends the whole, and nobody would notice."""
    source = Path(__file__).resolve().parents[2] / "userspace" / "kubernetes" / "api_transfers.cpp"
    accepted = {form: header for header, form in re.findall(r'"Accept: (application/json;as=(\w+);[^"]+)"', source.read_text())}
    for form, path in (("PartialObjectMetadata", "/api/v1/namespaces/default"), ("PartialObjectMetadataList", "/api/v1/namespaces")):
        status, body = plane.client.raw("GET", path, accept=accepted.pop(form))
        answer = json.loads(body)
        assert (status, answer["kind"]) == (200, form)
        assert all("spec" not in item and item["metadata"]["name"] for item in answer.get("items", [answer]))
    assert accepted == {}


def test_a_server_that_is_not_there_yet(plane, own_agent, client, service):
    plane.stop_api_server()
    agent = own_agent(ready=False, token="the-admin-of-the-lab")
    wait_reason(agent, "127.0.0.1", "onnect")
    plane.start_api_server()
    agent.wait(agent.ready, 40, "the agent is ready")
    assert serves_all(agent, client, service)


KUBECONFIGS = [
    ("missing", None, "No such file"),
    ("empty", "", "kubeconfig"),
    ("broken", "clusters: [", "sequence"),
    ("no context", "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: []\nusers: []\ncontexts: []\n", "x"),
]


@pytest.mark.parametrize("name,text,words", KUBECONFIGS, ids=[k[0] for k in KUBECONFIGS])
def test_a_kubeconfig_that_cannot_be_used(lab, plane, name, text, words):
    """The agent ends at once and says why."""
    path = plane.folder / "bad.kubeconfig"
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    agent = lab.agent(kubeconfig=path)
    agent.start(ready=False)
    assert agent._process.wait(10) != 0
    assert "bad.kubeconfig" in agent.log_tail() and words in agent.log_tail()


def test_reading_alone_is_enough(plane):
    """RULES, which the agents of these tests have, let nothing be changed."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    path = path_of(review["kind"], review["apiVersion"])
    for verb, resource in (("delete", "pods"), ("list", "secrets"), ("create", "services")):
        review["spec"] = {
            "user": "system:serviceaccount:default:weir",
            "resourceAttributes": {"verb": verb, "resource": resource, "namespace": "default"},
        }
        answer = plane.client.request("POST", path, review)
        assert not answer["status"]["allowed"], (verb, resource)
