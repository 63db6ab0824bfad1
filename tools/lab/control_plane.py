"""A real control plane for the lab: etcd and kube-apiserver in the network namespace of the lab's node.

Its ports, processes and files are the lab's, so labs side by side never meet, and what a crash leaves goes with
the lab. There is nothing but the two of them: no kubelet that runs pods, no controller that makes EndpointSlices.
"""

import base64
import json
import os
import signal
import ssl
import subprocess
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import yaml

from . import manifests, processes
from .api_client import ApiClient, ApiError, ApiObjects, path_of
from .certificates import Authority

GO_TOOL = Path(__file__).resolve().parents[1] / "go_tool"
ETCD_PORT, ETCD_PEER_PORT, PORT = 2379, 2380, 6443
ADMIN_TOKEN = "the-admin-of-the-lab"


def write_kubeconfig(path: Path, cluster: dict, user: dict) -> Path:
    """In a kubeconfig's words, with _ for - if that is easier."""

    def words(values: dict) -> dict:
        return {key.replace("_", "-"): str(value) for key, value in values.items()}

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": words(cluster)}],
        "users": [{"name": "lab", "user": words(user)}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    manifests.write(path, config)
    return path


@cache
def go_tool(name: str) -> Path:
    """The folder of a tool, built when it is not in the cache yet."""
    done = subprocess.run([GO_TOOL, name], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


class ControlPlane:
    """Made in a lab that has started. Use as a context manager, or start() and stop() it."""

    def __init__(self, lab, arguments=()):
        self.lab = lab
        self.folder = lab.folder / "control-plane"
        self.server = f"https://127.0.0.1:{PORT}"
        self._cgroup = lab.cgroup / "control-plane"
        self._arguments = list(arguments)
        self._etcd: subprocess.Popen | None = None
        self._api: subprocess.Popen | None = None
        self._etcd_client = ApiClient(lab.netns, ETCD_PORT)
        self.client: ApiClient | None = None  # the admin's
        self.authority: Authority | None = None  # of the server's certificate, and of clients'

    def __enter__(self) -> "ControlPlane":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        self.folder.mkdir(mode=0o700)
        self._cgroup.mkdir()
        self.authority = Authority(self.folder)
        self.authority.sign("server", "/CN=kube-apiserver", "IP:127.0.0.1,DNS:localhost")
        self.authority.openssl("pkey", "-in", "ca.key", "-pubout", "-out", "tokens.pub")
        (self.folder / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
        tls = ssl.create_default_context(cafile=str(self.authority.certificate))
        self.client = ApiClient(self.lab.netns, PORT, tls, ADMIN_TOKEN)
        self._etcd = self._spawn("etcd", *self._etcd_flags())
        self.start_api_server()

    def stop(self) -> None:
        """etcd last: an API server without one takes its time to end."""
        if self._api:
            self.stop_api_server()
        if self._etcd:
            processes.stop(self._etcd)

    def start_api_server(self, timeout=120.0) -> None:
        self._api = self._spawn("kube-apiserver", *self._api_flags())
        processes.wait_until(self._ready, timeout, "kube-apiserver is ready", interval=0.05)

    def stop_api_server(self, how=signal.SIGKILL) -> None:
        """At once, as by the kernel's OOM killer; SIGTERM lets it finish requests, for up to a minute."""
        processes.stop(self._api, timeout=60, first=how)

    @contextmanager
    def hung(self):
        """Within the block the API server takes connections and says nothing."""
        os.kill(self._api.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._api.pid, signal.SIGCONT)

    def _ready(self) -> bool:
        for process, name in ((self._etcd, "etcd"), (self._api, "kube-apiserver")):
            if process.poll() is not None:
                raise processes.CommandFailed(f"{name} ended with status {process.returncode}; see {name}.log")
        try:
            return self.client.raw("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def _spawn(self, program: str, *flags: str) -> subprocess.Popen:
        argv = [str(go_tool("kubernetes") / program), *flags]
        return processes.spawn(argv, self.lab.netns, self._cgroup, self.lab.folder / "logs" / f"{program}.log")

    def _etcd_flags(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{ETCD_PORT}", f"http://127.0.0.1:{ETCD_PEER_PORT}"
        return [
            *("--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
        ]

    def _api_flags(self) -> list[str]:
        return [
            f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}",
            *("--bind-address=127.0.0.1", f"--secure-port={PORT}"),
            # It wants an address that others might use, though nobody is told of it.
            *("--advertise-address=10.244.0.1", "--endpoint-reconciler-type=none"),
            "--service-cluster-ip-range=10.96.0.0/16" + (",fd00:10:96::/112" if self.lab.ipv6 else ""),
            # As clusters have it: what a pod may is left to admission.
            "--allow-privileged=true",
            *("--authorization-mode=RBAC", f"--token-auth-file={self.folder / 'tokens.csv'}"),
            f"--client-ca-file={self.authority.certificate}",
            *(f"--tls-cert-file={self.folder / 'server.crt'}", f"--tls-private-key-file={self.folder / 'server.key'}"),
            # No controller makes service accounts, and no kubelet mounts their tokens.
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.folder / 'tokens.pub'}",
            f"--service-account-signing-key-file={self.folder / 'ca.key'}",
            *self._arguments,
        ]

    def objects(self) -> ApiObjects:
        """For Lab.objects."""
        return ApiObjects(self.client)

    def kubeconfig(self, name: str, **user) -> Path:
        """Writes a kubeconfig; `user` in a kubeconfig's words with _ for -: token, tokenFile, client_certificate, ..."""
        cluster = {"server": self.server, "certificate-authority": self.authority.certificate}
        return write_kubeconfig(self.folder / f"{name}.kubeconfig", cluster, user)

    def service_account(self, name: str, rules: list[dict]) -> dict:
        """A ServiceAccount of namespace default with a ClusterRole of the same name; token() gives its tokens."""
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
        binding = {**role, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]}
        del binding["rules"]
        for wanted in (role, binding):
            self.client.apply(wanted)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}}
        return self.client.apply(account)

    def token(self, account: str, bound_to: dict | None = None) -> str:
        """A token of an hour. One that is bound to a Secret ends some 10 s after the Secret."""
        spec = {"expirationSeconds": 3600}
        if bound_to:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": bound_to["kind"], "name": bound_to["metadata"]["name"]}
            spec["boundObjectRef"]["uid"] = bound_to["metadata"]["uid"]
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = path_of("ServiceAccount", name=account, subresource="token")
        return self.client.request("POST", path, asked)["status"]["token"]

    def apply_crds(self, *plurals: str, tool="istio-crds") -> None:
        """CustomResourceDefinitions of these plural names (all, if none is given) of Istio, or of another tool of
        go_tool; they are served on return."""
        texts = [file.read_text() for file in sorted(go_tool(tool).glob("*.yaml"))]
        definitions = [d for text in texts for d in yaml.load_all(text, yaml.CSafeLoader) if d]
        for definition in definitions:
            names = definition["spec"]["names"]
            if plurals and names["plural"] not in plurals:
                continue
            self.client.apply(definition)
            for version in definition["spec"]["versions"]:
                listed = f"/apis/{definition['spec']['group']}/{version['name']}/{names['plural']}"
                processes.wait_until(lambda: self.client.raw("GET", listed)[0] == 200, 20, f"{listed} is served")

    def kubectl(self, *arguments: str, **options):
        """Runs kubectl as the admin."""
        path = self.kubeconfig("admin", token=ADMIN_TOKEN)
        return processes.run(
            [str(go_tool("kubernetes") / "kubectl"), "--kubeconfig", str(path), *arguments], netns=self.lab.netns, **options
        )

    def compact(self) -> None:
        """Makes every revision but the newest unknown to etcd. A write of our own comes first, so that what a
        client has seen last is an old one also while the API server is away."""
        key = base64.b64encode(b"/weir-lab/compaction").decode()
        written = self._etcd_post("/v3/kv/put", {"key": key, "value": key})
        self._etcd_post("/v3/kv/compaction", {"revision": written["header"]["revision"], "physical": True})

    def _etcd_post(self, path: str, body: dict) -> dict:
        status, answer = self._etcd_client.raw("POST", path, json.dumps(body).encode())
        if status != 200:
            raise ApiError(status, answer.decode(errors="replace"))
        return json.loads(answer)
