"""A small client of a Kubernetes API server that listens in a network namespace: objects in and out as dicts."""

import http.client
import json
import re
import threading

from . import processes

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
CLUSTER_WIDE = {
    *("Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"),
    "SubjectAccessReview",
}


class ApiError(Exception):
    """The server refused; `status` is its HTTP code."""

    def __init__(self, status: int, message: str):
        super().__init__(f"{status}: {message}")
        self.status = status


def path_of(kind: str, api_version="v1", namespace="default", name="", subresource="") -> str:
    """The URL's path of an object, or without a name of its kind's list."""
    path = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
    if kind not in CLUSTER_WIDE:
        path += f"/namespaces/{namespace}"
    path += "/" + re.sub("cy$", "cie", kind.lower()) + "s"
    return path + "".join(f"/{part}" for part in (name, subresource) if part)


def path_to(found: dict, subresource="") -> str:
    """The URL's path of an object that is at hand."""
    metadata = found["metadata"]
    return path_of(found["kind"], found["apiVersion"], metadata.get("namespace", "default"), metadata["name"], subresource)


class ApiClient:
    """Any number of threads may use it: each has a connection of its own. `tls` None: plain HTTP."""

    def __init__(self, netns: str, port: int, tls=None, token=""):
        self._netns, self._port, self._tls, self._token = netns, port, tls, token
        self._local = threading.local()

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.sock = processes.open_socket(self._netns)
        try:
            connection.sock.settimeout(30)
            connection.sock.connect(("127.0.0.1", self._port))
            if self._tls:
                connection.sock = self._tls.wrap_socket(connection.sock, server_hostname="127.0.0.1")
        except OSError:
            connection.close()
            raise
        return connection

    def raw(self, method: str, path: str, body=b"", content_type="application/json", accept="application/json") -> tuple[int, bytes]:
        """One request; on a connection that an earlier one left, if the server still has it."""
        headers = {"Content-Type": content_type, "Accept": accept}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        kept = getattr(self._local, "connection", None)
        for connection in (kept, None) if kept else (None,):
            try:
                connection = connection or self._connect()
                connection.request(method, path, body or None, headers)
                response = connection.getresponse()
                answer = response.status, response.read()
                self._local.connection = connection
                return answer
            except (OSError, http.client.HTTPException):
                self._local.connection = None
                if connection is None or connection is not kept:
                    raise
                connection.close()

    def request(self, method: str, path: str, body=None, content_type="application/json") -> dict:
        status, answer = self.raw(method, path, json.dumps(body).encode() if body is not None else b"", content_type)
        if status >= 300:
            raise ApiError(status, answer.decode(errors="replace")[:500])
        return json.loads(answer)

    def get(self, path: str) -> dict:
        return self.request("GET", path)

    def create(self, wanted: dict, subresource="") -> dict:
        path = path_to(wanted, subresource)
        return self.request("POST", path if subresource else path.rpartition("/")[0], wanted)

    def replace(self, wanted: dict) -> dict:
        return self.request("PUT", path_to(wanted), wanted)

    def patch(self, found: dict, change: dict, subresource="") -> dict:
        """A JSON merge patch (RFC 7386)."""
        return self.request("PATCH", path_to(found, subresource), change, MERGE)

    def apply(self, wanted: dict) -> dict:
        """Server-side apply: creates the object or makes it as wanted, its status too if there is one."""
        query = "?fieldManager=lab&force=true"
        stored = self.request("PATCH", path_to(wanted) + query, wanted, APPLY)
        if "status" in wanted:
            stored = self.request("PATCH", path_to(wanted, "status") + query, wanted, APPLY)
        return stored

    def delete(self, found: dict) -> None:
        """At once, and without complaint if it is gone already."""
        try:
            self.request("DELETE", path_to(found) + "?gracePeriodSeconds=0")
        except ApiError as error:
            if error.status != 404:
                raise


class ApiObjects:
    """Keeps the lab's objects in an API server, as manifests.Directory keeps them in files."""

    def __init__(self, client: ApiClient):
        self.client = client
        self._held: dict[str, list[dict]] = {}

    def publish(self, key: str, *objects: dict) -> list[dict]:
        wanted = [{**o, "metadata": {k: v for k, v in o["metadata"].items() if k != "uid"}} for o in objects]
        before, self._held[key] = self._held.get(key, []), wanted
        stored = [self.client.apply(o) for o in wanted]
        kept = {path_to(o) for o in wanted}
        for gone in before:
            if path_to(gone) not in kept:
                self.client.delete(gone)
        return stored

    def withdraw(self, key: str) -> None:
        for gone in self._held.pop(key, []):
            self.client.delete(gone)
