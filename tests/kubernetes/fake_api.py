"""A scripted API server: lists, watches and WatchLists of what it holds, writes to it, and any fault in their place.

It listens in a network namespace and takes the lab's objects as manifests.Directory does (set it as Lab.objects),
so a test changes endpoints in the words of the lab and sees what the agent makes of the events. A fault is a function
of one Exchange; while it is set it answers every request for its resources.
"""

import json
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from lab import processes

BOOKMARK_SECONDS = 1.0  # a real server's: a minute
INITIAL_END = {"k8s.io/initial-events-end": "true"}
KINDS = {
    **{"pods": ("v1", "Pod"), "namespaces": ("v1", "Namespace"), "services": ("v1", "Service")},
    **{"configmaps": ("v1", "ConfigMap"), "nodes": ("v1", "Node")},
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "virtualservices": ("networking.istio.io/v1", "VirtualService"),
    "destinationrules": ("networking.istio.io/v1", "DestinationRule"),
    "gateways": ("networking.istio.io/v1", "Gateway"),
    "authorizationpolicies": ("security.istio.io/v1", "AuthorizationPolicy"),
    "requestauthentications": ("security.istio.io/v1", "RequestAuthentication"),
    "peerauthentications": ("security.istio.io/v1", "PeerAuthentication"),
    "daemonsets": ("apps/v1", "DaemonSet"),
    **{"events": ("v1", "Event"), "leases": ("coordination.k8s.io/v1", "Lease")},
}
# A resource of its own, so to say: /apis/GROUP
GROUPS = {version.partition("/")[0] for version, _ in KINDS.values() if "/" in version}
PLURALS = {kind: plural for plural, (_, kind) in KINDS.items()}


def status(code: int, reason: str, message: str) -> dict:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code}


def merged(target, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@dataclass(frozen=True)
class Event:
    revision: int
    resource: str
    kind: str  # ADDED, MODIFIED, DELETED, BOOKMARK, ERROR
    object: dict


class Exchange(BaseHTTPRequestHandler):
    """One request and the means to answer it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "null")
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query))
        parts = [part for part in url.path.split("/") if part]
        at = next((i for i, part in enumerate(parts) if part in KINDS and (part != "namespaces" or i >= len(parts) - 2)), None)
        self.resource = parts[at] if at is not None else ""
        self.object_name = parts[at + 1] if at is not None and at + 1 < len(parts) else ""
        if parts[:1] == ["apis"] and len(parts) == 2:
            self.resource = parts[1]
        self.watches = self.query.get("watch") in ("1", "true")
        fault = self.api.note(self)
        try:
            (fault or Exchange.behave)(self)
        except OSError:
            self.close_connection = True  # the agent left, or the test cut the connection

    do_POST = do_PUT = do_PATCH = do_GET

    def log_message(self, *_) -> None:
        pass

    @property
    def api(self) -> "FakeApi":
        return self.server.api

    def behave(self) -> None:
        """As a real one does."""
        if self.resource in GROUPS:
            self.group()
        elif self.resource not in self.api.served:
            self.refuse(404, "NotFound", "the server could not find the requested resource")
        elif self.command != "GET":
            self.write()
        elif self.object_name:
            self.get()
        elif self.watches:
            self.watch()
        else:
            self.list()

    def reply(self, code: int, body: bytes, content_type="application/json", **headers) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, code: int, reason: str, message: str, **headers) -> None:
        self.reply(code, json.dumps(status(code, reason, message)).encode(), **headers)

    def get(self) -> None:
        found = [o for o in self.api.items(self.resource, {}) if o["metadata"]["name"] == self.object_name]
        if found:
            self.reply(200, json.dumps(self.shape(found[0])).encode())
        else:
            self.refuse(404, "NotFound", f'{self.resource} "{self.object_name}" not found')

    def write(self) -> None:
        code, answer = self.api.write(self.command, self.resource, self.object_name, self.body)
        if code < 300:
            self.reply(code, json.dumps(answer).encode())
        else:
            self.refuse(code, answer, answer)

    def group(self) -> None:
        versions = {KINDS[kind][0] for kind in self.api.served if KINDS[kind][0].startswith(f"{self.resource}/")}
        if not versions:
            return self.refuse(404, "NotFound", "the server could not find the requested resource")
        listed = [{"groupVersion": version, "version": version.partition("/")[2]} for version in sorted(versions)]
        group = {"kind": "APIGroup", "apiVersion": "v1", "name": self.resource, "versions": listed}
        self.reply(200, json.dumps(group).encode())

    def list(self) -> None:
        if self.wanted_form == "PartialObjectMetadata":
            return self.refuse(406, "NotAcceptable", "you requested PartialObjectMetadata, but the requested object is a list")
        self.reply(200, json.dumps(self.page()).encode())

    def page(self) -> dict:
        """The answer to a list: all that is selected, or `limit` of it from `continue` on."""
        items = [self.shape(o) for o in self.api.items(self.resource, self.query)]
        version, kind = KINDS[self.resource]
        for item in items:
            del item["kind"], item["apiVersion"]  # as a real server's lists have it
        if self.metadata_only:
            version, kind = "meta.k8s.io/v1", "PartialObjectMetadata"
        begin = int(self.query.get("continue") or 0)
        end = begin + int(self.query.get("limit") or len(items) or 1)
        metadata = {"resourceVersion": str(self.api.revision)}
        if end < len(items):
            metadata |= {"continue": str(end), "remainingItemCount": len(items) - end}
        # A real server's list of metadata alone has null for none.
        found = items[begin:end] or (None if self.metadata_only else [])
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": metadata, "items": found}

    @property
    def wanted_form(self) -> str:
        """The first form of the Accept header; empty: the whole. A real server passes over a version that it does not know."""
        first, _, parameters = self.headers.get("Accept", "").partition(",")[0].partition(";")
        wanted = dict(parameter.strip().partition("=")[::2] for parameter in parameters.split(";"))
        if first != "application/json" or (wanted.get("g"), wanted.get("v")) != ("meta.k8s.io", "v1"):
            return ""
        return wanted.get("as", "")

    @property
    def metadata_only(self) -> bool:
        form = "PartialObjectMetadataList" if self.command == "GET" and not self.watches and not self.object_name else "PartialObjectMetadata"
        return self.wanted_form == form

    def shape(self, stored: dict) -> dict:
        """The object as the Accept header wants it."""
        if not self.metadata_only:
            return dict(stored)
        return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": stored.get("metadata", {})}

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.api.hold(self.connection)

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def event(self, kind: str, changed: dict) -> None:
        self.chunk(json.dumps({"type": kind, "object": changed}).encode() + b"\n")

    def bookmark(self, revision: int, **annotations) -> None:
        version, kind = KINDS[self.resource]
        metadata = {"resourceVersion": str(revision), "annotations": annotations}
        self.event("BOOKMARK", self.shape({"kind": kind, "apiVersion": version, "metadata": metadata}))

    def watch(self) -> None:
        if self.query.get("sendInitialEvents") == "true" and not self.api.watch_lists:
            return self.refuse(422, "Invalid", 'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden')
        self.begin_stream()
        seen = self.initial_events()
        ends = time.monotonic() + float(self.query.get("timeoutSeconds") or 600)
        bookmark_due = time.monotonic() + BOOKMARK_SECONDS
        while time.monotonic() < ends and not self.api.closed:
            if time.monotonic() >= bookmark_due:
                self.bookmark(seen)
                bookmark_due += BOOKMARK_SECONDS
            for happened in self.api.wait_events(self.resource, seen, timeout=0.5):
                seen = happened.revision
                if selected(happened.object, self.query.get("fieldSelector", "")):
                    self.event(happened.kind, self.shape(happened.object))
        self.chunk(b"")

    def initial_events(self) -> int:
        """Of a WatchList; returns the revision that the watch goes on from."""
        if self.query.get("sendInitialEvents") != "true":
            return int(self.query.get("resourceVersion") or self.api.revision)
        revision = self.api.revision
        for stored in self.api.items(self.resource, self.query):
            self.event("ADDED", self.shape(stored))
        self.bookmark(revision, **INITIAL_END)
        return revision


@dataclass(frozen=True)
class Request:
    at: float
    resource: str
    watches: bool
    query: dict
    headers: dict = field(repr=False)
    method: str = "GET"


class FakeApi:
    """Listens on loopback of the network namespace, with TLS if there is a certificate (and its key). It has HTTP/1.1
    only. Use as a context manager."""

    def __init__(self, netns: str, certificate=None):
        self.served = set(KINDS)
        self.watch_lists = True
        self.closed = False
        self.revision = 1000
        self.requests: list[Request] = []
        self._changed = threading.Condition()
        self._stored: dict[tuple, dict] = {}  # (resource, namespace, name) -> object
        self._keys: dict[str, list[tuple]] = {}
        self._history: list[Event] = []
        self._faults: dict[str, object] = {}
        self._held: list = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.api = self
        self._server.socket.close()
        self._server.socket = processes.open_socket(netns)
        self._server.socket.bind(("127.0.0.1", 0))
        self._server.server_activate()
        self.port = self._server.socket.getsockname()[1]
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        if certificate:
            tls = self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*certificate)
            # The handshake is the connection's own thread's, not that of accept().
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def __enter__(self) -> "FakeApi":
        return self

    def __exit__(self, *_) -> None:
        self.closed = True
        self._server.shutdown()
        self._server.server_close()
        self.drop_connections()

    # ---- as manifests.Directory

    def publish(self, key: str, *objects: dict) -> list[dict]:
        with self._changed:
            before = self._keys.get(key, [])
            self._keys[key] = [self._store(dict(o)) for o in objects]
            for gone in set(before) - set(self._keys[key]):
                self._delete(gone)
            return [self._stored[place] for place in self._keys[key]]

    def withdraw(self, key: str) -> None:
        with self._changed:
            for gone in self._keys.pop(key, []):
                self._delete(gone)

    def published(self) -> dict[str, list[dict]]:
        with self._changed:
            return {key: [self._stored[place] for place in places] for key, places in self._keys.items()}

    def _store(self, wanted: dict) -> tuple:
        metadata = wanted["metadata"]
        place = (PLURALS[wanted["kind"]], metadata.get("namespace", ""), metadata["name"])
        wanted["metadata"] = {"uid": f"uid-{self.revision}", **metadata}
        self._stored[place] = self.emit("MODIFIED" if place in self._stored else "ADDED", wanted)
        return place

    def _delete(self, place: tuple) -> None:
        self.emit("DELETED", self._stored.pop(place))

    # ---- what the script of a test does

    def emit(self, kind: str, changed: dict, revision: int | None = None) -> dict:
        """An event to whoever watches; `revision`: what the object says of itself, by default a new one. Returns the
        object as sent."""
        with self._changed:
            self.revision += 1
            sent = {**changed, "metadata": {**changed["metadata"], "resourceVersion": str(revision or self.revision)}}
            self._history.append(Event(self.revision, PLURALS[changed["kind"]], kind, sent))
            self._changed.notify_all()
            return sent

    @contextmanager
    def fault(self, answer, *resources: str):
        """Within the block, `answer` meets every request for the resources (all, if none is named); running ones are cut."""
        resources = resources or tuple(KINDS)
        with self._changed:
            before, self._faults = self._faults, self._faults | dict.fromkeys(resources, answer)
        self.drop_connections()
        try:
            yield
        finally:
            with self._changed:
                self._faults = before
            self.drop_connections()

    def drop_connections(self) -> None:
        """Cuts every watch, as a server does that is killed."""
        with self._changed:
            held, self._held = self._held, []
        for connection in held:
            try:
                connection.shutdown(2)
            except OSError:
                continue  # gone already

    def asked(self, resource: str, since=0.0) -> list[Request]:
        with self._changed:
            return [r for r in self.requests if r.resource == resource and r.at >= since]

    # ---- for Exchange

    def note(self, exchange: Exchange):
        """Remembers the request; returns the fault that answers it, if there is one."""
        with self._changed:
            headers = {k.lower(): v for k, v in exchange.headers.items()}
            self.requests.append(Request(time.monotonic(), exchange.resource, exchange.watches, exchange.query, headers, exchange.command))
            return self._faults.get(exchange.resource)

    def write(self, method: str, resource: str, name: str, body: dict) -> tuple[int, object]:
        """Status and object, or the reason of a refusal."""
        with self._changed:
            place = next((p for p in self._stored if p[0] == resource and p[2] == (name or body["metadata"]["name"])), None)
            if (place is None) != (method == "POST"):
                return (409, "AlreadyExists") if place else (404, "NotFound")
            before = self._stored.get(place, {})
            if method == "PUT" and body["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
                return 409, "Conflict"
            if method == "POST":
                place = (resource, body["metadata"].get("namespace", ""), body["metadata"]["name"])
            written = merged(before, body) if method == "PATCH" else body
            self._stored[place] = self.emit("ADDED" if method == "POST" else "MODIFIED", written)
            return 201 if method == "POST" else 200, self._stored[place]

    def hold(self, connection) -> None:
        with self._changed:
            self._held.append(connection)

    def items(self, resource: str, query: dict) -> list[dict]:
        with self._changed:
            return [o for (r, _, _), o in self._stored.items() if r == resource and selected(o, query.get("fieldSelector", ""))]

    def wait_events(self, resource: str, after: int, timeout: float) -> list[Event]:
        with self._changed:
            found = [e for e in self._history if e.revision > after and e.resource == resource]
            if not found:
                self._changed.wait(timeout)
            return found


def selected(stored: dict, selector: str) -> bool:
    if selector.startswith("spec.nodeName"):
        wanted = selector.rpartition("=")[2]
        return (stored["spec"].get("nodeName") == wanted) != ("!=" in selector)
    if selector.startswith("metadata.name="):
        return stored["metadata"]["name"] == selector.partition("=")[2]
    return True
