"""Envoy with what Istio would tell it: the few fields of VirtualServices and DestinationRules that the parity tests use,
translated as istiod translates them."""

import json
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FIRST_PORT = 18001
NO_LIMIT = 2**32 - 1
TYPES = "type.googleapis.com/envoy.extensions"


def address(host: str, port: int) -> dict:
    return {"socket_address": {"address": host, "port_value": port}}


class Envoy:
    """One Envoy in a pod, with a listener for each (rules, policy, endpoints)."""

    def __init__(self, lab, backend_port: int):
        self.pod = lab.pod("envoy")
        self.log = lab.folder / "logs" / "envoy-access.log"
        self._config = lab.folder / "envoy.json"
        self._backend_port = backend_port
        self._listeners: list[dict] = []
        self._clusters: list[dict] = []

    def add(self, name: str, http: list[dict], policy: dict, pods) -> int:
        """The port on which these rules of a VirtualService hold."""
        port = FIRST_PORT + len(self._listeners)
        self._clusters.append(cluster(name, policy, [address(pod.ip, self._backend_port) for pod in pods]))
        self._listeners.append(listener(name, port, [r for rule in http for r in routes(rule, name)], self.log))
        return port

    def start(self) -> None:
        binary = subprocess.run([REPOSITORY / "tools" / "envoy"], capture_output=True, text=True, check=True, timeout=600).stdout.strip()
        self._config.write_text(json.dumps({"static_resources": {"listeners": self._listeners, "clusters": self._clusters}}))
        argv = [binary, "-c", self._config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", "20"]
        self.pod.popen(argv)
        self.pod.wait_listening(FIRST_PORT + len(self._listeners) - 1)

    def records(self, path: str) -> list[dict]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [record for record in map(json.loads, lines) if record["path"] == path]


def listener(name: str, port: int, found: list[dict], log: Path) -> dict:
    fields = {"path": "%REQ(:PATH)%", "response_flags": "%RESPONSE_FLAGS%", "response_code": "%RESPONSE_CODE%"}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "HTTP2",
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": f"{TYPES}.access_loggers.file.v3.FileAccessLog",
                    "path": str(log),
                    "log_format": {"json_format": fields},
                },
            }
        ],
        "route_config": {"validate_clusters": False, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": found}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": name, "address": address("0.0.0.0", port), "filter_chains": [chain]}


def cluster(name: str, policy: dict, endpoints: list[dict]) -> dict:
    pool = policy.get("connectionPool", {})
    tcp, http = pool.get("tcp", {}), pool.get("http", {})
    thresholds = {
        "max_connections": tcp.get("maxConnections", NO_LIMIT),
        "max_pending_requests": http.get("http1MaxPendingRequests", NO_LIMIT),
        "max_requests": http.get("http2MaxRequests", NO_LIMIT),
        "max_retries": NO_LIMIT,
    }
    streams = {"max_concurrent_streams": http["maxConcurrentStreams"]} if "maxConcurrentStreams" in http else {}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": tcp.get("connectTimeout", "10s"),
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {}},
        "circuit_breakers": {"thresholds": [thresholds]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": streams},
            }
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": e}} for e in endpoints]}]},
    }


def routes(rule: dict, name: str) -> list[dict]:
    """One for each entry of `match`: they are OR."""
    timeout = rule.get("timeout", "0s")
    action: dict = {"timeout": timeout, "max_grpc_timeout": timeout}  # the latter for gRPC requests
    subset = rule["route"][0]["destination"].get("subset")
    action["cluster"] = f"{name}-{subset}" if subset else name
    retries = rule.get("retries", {"attempts": 0})
    if retries["attempts"] > 0:
        action["retry_policy"] = {"retry_on": retries["retryOn"], "num_retries": retries["attempts"]}
        if "perTryTimeout" in retries:
            action["retry_policy"]["per_try_timeout"] = retries["perTryTimeout"]
    found = []
    for match in rule.get("match", [{}]):
        made = {"match": route_match(match), "route": action}
        if added := rule.get("headers", {}).get("response", {}).get("set"):
            made["response_headers_to_add"] = [
                {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"} for key, value in added.items()
            ]
        found.append(made)
    return found


def route_match(match: dict) -> dict:
    uri = match.get("uri", {})
    if "regex" in uri:
        made: dict = {"safe_regex": {"regex": uri["regex"]}}
    elif "exact" in uri:
        made = {"path": uri["exact"]}
    else:
        made = {"prefix": uri.get("prefix", "/")}
    if match.get("ignoreUriCase") and "regex" not in uri:
        made["case_sensitive"] = False
    headers = [header_match(name, value) for name, value in match.get("headers", {}).items()]
    headers += [
        header_match(name, value) | {"invert_match": True} | ({"treat_missing_header_as_empty": True} if value else {})
        for name, value in match.get("withoutHeaders", {}).items()
    ]
    headers += [header_match(f":{part}", match[part]) for part in ("method", "authority", "scheme") if part in match]
    made["headers"] = headers
    made["query_parameters"] = [{"name": n, "string_match": string_match(v)} for n, v in match.get("queryParams", {}).items()]
    return made


def header_match(name: str, value: dict) -> dict:
    return {"name": name, "string_match": string_match(value)} if value else {"name": name, "present_match": True}


def string_match(value: dict) -> dict:
    return {"safe_regex": {"regex": value["regex"]}} if "regex" in value else value
