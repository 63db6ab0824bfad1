"""The servers of the matrix, by name: each starts in a pod of its own (or several) and says on which port it listens."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import stacks
from lab import processes
from lab.certificates import Authority
from lab.node import Lab
from lab.pod import Pod

APPS = Path(__file__).resolve().parent / "apps"
PYTHON = "/usr/bin/python3"
# Seconds that a database may take to make its files on a busy machine.
MAKING = 300
STARTING = 120  # and any server


@dataclass(frozen=True)
class Server:
    pods: list[Pod]
    port: int

    def wait(self) -> None:
        for pod in self.pods:
            pod.wait_listening(self.port, STARTING)


SERVERS: dict[str, Callable[[Lab, Path], Server]] = {}


def server(make: Callable[[Lab, Path], Server]):
    """Adds the decorated function by its name; it gets the lab and a folder for its files."""
    SERVERS[make.__name__] = make
    return make


def program(lab: Lab, name: str, port: int, argv) -> Server:
    pod = lab.pod(name)
    pod.popen(argv)
    return Server([pod], port)


def owned(folder: Path, user: str) -> Path:
    folder.mkdir()
    shutil.chown(folder, user, user)
    return folder


def certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate and key of every TLS server, good for all ClusterIPs of the lab; the authority's is FOLDER/tls/ca.crt."""
    tls = folder / "tls"
    if not tls.is_dir():
        tls.mkdir()
        Authority(tls).sign("server", "/CN=matrix", "DNS:matrix," + ",".join(f"IP:10.96.0.{last}" for last in range(10, 250)))
    return tls / "server.crt", tls / "server.key"


def three(lab: Lab, name: str, port: int, *arguments, kind="server") -> Server:
    """The gRPC server of clients/go, three times."""
    pods = [lab.pod(f"{name}-{number}") for number in (1, 2, 3)]
    for pod in pods:
        pod.popen([stacks.built("go") / "matrix", kind, pod.name, port, *arguments])
    return Server(pods, port)


@server
def grpc(lab: Lab, folder: Path) -> Server:
    return three(lab, "grpc", 50051)


@server
def grpcs(lab: Lab, folder: Path) -> Server:
    return three(lab, "grpcs", 50052, *certificate(folder))


@server
def pinging(lab: Lab, folder: Path) -> Server:
    return three(lab, "pinging", 50053, kind="pinging")


@server
def pinging_tls(lab: Lab, folder: Path) -> Server:
    return three(lab, "pinging-tls", 50054, *certificate(folder), kind="pinging")


@server
def interop(lab: Lab, folder: Path) -> Server:
    pods = [lab.pod(f"interop-{number}") for number in (1, 2)]
    for pod in pods:
        pod.popen([stacks.interop() / "interop_server", "--use_tls=false", "--port=10000"])
    return Server(pods, 10000)


@server
def redis(lab: Lab, folder: Path) -> Server:
    return program(lab, "redis", 6379, ["redis-server", "--bind", "*", "-::*", "--protected-mode", "no", "--save", "", "--dir", "/tmp"])


@server
def postgres(lab: Lab, folder: Path) -> Server:
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    data = owned(folder / "postgres", "postgres")
    as_postgres = ["runuser", "-u", "postgres", "--"]
    processes.run([*as_postgres, programs / "initdb", "--no-sync", "--auth=trust", data], timeout=MAKING)
    with (data / "pg_hba.conf").open("a") as access:
        access.write("host all all 0.0.0.0/0 trust\n")
    return program(
        lab, "postgres", 5432, [*as_postgres, programs / "postgres", "-D", data, "-h", "*", "-c", "fsync=off", "-k", data]
    )


@server
def mariadb(lab: Lab, folder: Path) -> Server:
    data = owned(folder / "mariadb", "mysql")
    processes.run(
        ["mariadb-install-db", "--no-defaults", "--user=mysql", "--skip-test-db", "--auth-root-authentication-method=normal", f"--datadir={data}"],
        timeout=MAKING,
    )
    grants = data / "grants.sql"
    grants.write_text("CREATE DATABASE matrix;\nCREATE USER matrix@'%' IDENTIFIED BY 'matrix';\nGRANT ALL ON *.* TO matrix@'%';\n")
    grants.chmod(0o644)
    return program(
        lab, "mariadb", 3306,
        ["mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--socket={data}/socket", f"--init-file={grants}",
         "--bind-address=*", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"],
    )  # fmt: skip


@server
def ssh(lab: Lab, folder: Path) -> Server:
    keys = folder / "ssh"
    keys.mkdir(mode=0o700)
    for name in ("host", "client"):
        processes.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name])
    (keys / "config").write_text(
        f"HostKey {keys}/host\nAuthorizedKeysFile {keys}/client.pub\nPermitRootLogin yes\nPasswordAuthentication no\n"
        f"UsePAM no\nUseDNS no\nStrictModes no\nPidFile none\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's chroot, which a service manager makes elsewhere
    return program(lab, "ssh", 22, ["/usr/sbin/sshd", "-D", "-e", "-f", keys / "config"])


def files(folder: Path) -> Path:
    """What the web servers serve."""
    root = folder / "www"
    if not root.is_dir():
        root.mkdir()
        (root / "small").write_text("small\n")
        (root / "large").write_bytes(bytes(range(256)) * (40 << 10))
    return root


def nginx(lab: Lab, folder: Path, name: str, port: int, listen: str) -> Server:
    home = folder / name
    home.mkdir()
    temporary = "".join(f"{kind}_temp_path {home}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "nginx.conf").write_text(
        f"daemon off; pid {home}/pid; error_log stderr; user root;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}"
        f"server {{ listen {port} {listen}; root {files(folder)}; client_max_body_size 64m;\n"
        f"location /upload {{ dav_methods PUT; root {home}; create_full_put_path on; }}\n}}\n}}\n"
    )
    return program(lab, name, port, ["nginx", "-c", home / "nginx.conf"])


@server
def http(lab: Lab, folder: Path) -> Server:
    return nginx(lab, folder, "http", 8080, "")


@server
def https(lab: Lab, folder: Path) -> Server:
    crt, key = certificate(folder)
    return nginx(lab, folder, "https", 8443, f"ssl http2; ssl_certificate {crt}; ssl_certificate_key {key}")


@server
def h2c(lab: Lab, folder: Path) -> Server:
    """nghttpx, which takes HTTP/1.1's upgrade to h2c, before nginx in the same pod."""
    pod = nginx(lab, folder, "h2c", 8083, "").pods[0]
    pod.popen(["nghttpx", "--conf=/dev/null", "--frontend=*,8082;no-tls", "--backend=127.0.0.1,8083", "--workers=1", "--errorlog-file=/dev/stderr"])
    return Server([pod], 8082)


@server
def websocket(lab: Lab, folder: Path) -> Server:
    return program(lab, "websocket", 8081, [PYTHON, APPS / "websocket_server.py", 8081])


@server
def echo(lab: Lab, folder: Path) -> Server:
    return program(lab, "echo", 7000, [PYTHON, APPS / "echo.py", 7000])
