"""Kubernetes objects of the tests: greeter servers, clients, and the namespaces they are in."""

# The namespace of most tests.
APP = "app"
APPS = "localhost/lab-apps:1"
PORT = 50051
ENROLLED = {"weir.dev/dataplane": "enabled"}
PYTHON = "/usr/bin/python3"


def namespace(name: str, **labels: str) -> dict:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def container(name: str, *command: str, **more) -> dict:
    return {"name": name, "image": APPS, "imagePullPolicy": "Never", "command": list(command), **more}


def pod(name: str, namespace: str, *containers: dict, labels: dict | None = None) -> dict:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name, **(labels or {})}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _spec(containers)}


def client(namespace: str, name: str = "client", **more) -> dict:
    """A pod that waits for commands."""
    return pod(name, namespace, container("client", "sleep", "infinity"), **more)


def deployment(name: str, namespace: str, replicas: int, *containers: dict) -> dict:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": _spec(containers)}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def greeter(readiness_probe: dict) -> dict:
    """A server's container, which answers with its pod's name."""
    name = {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    command = [PYTHON, "/apps/greeter_server.py", f"--address=[::]:{PORT}", "--uuid=$(POD)"]
    probe = {"periodSeconds": 1, **readiness_probe}
    return container("server", *command, env=[name], ports=[{"name": "grpc", "containerPort": PORT}], readinessProbe=probe)


def service(name: str, namespace: str) -> dict:
    ports = [{"name": "grpc", "port": 80, "targetPort": "grpc", "appProtocol": "grpc"}]
    spec = {"selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def virtual_service(name: str, namespace: str, host: str, *http: dict) -> dict:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": {"hosts": [host], "http": list(http)}}


def job(name: str, namespace: str, pods: int, command: list[str], at_once: int | None = None) -> dict:
    """All pods at once, or so many, each one time; those that fail are counted and tried again."""
    template = {"spec": {**_spec([container("client", *command)]), "restartPolicy": "Never"}}
    spec = {"completions": pods, "parallelism": at_once or pods, "backoffLimit": pods, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _spec(containers) -> dict:
    return {"containers": list(containers), "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False}
