"""Rows of software that speaks other protocols than gRPC: Debian's packages and two small programs."""

import re

from row import LEARNED, RELAYED, ROWS, Declared, End, Row
from servers import APPS, PYTHON

# Bytes that no compression or repetition hides a loss of.
LARGE = b"".join(i.to_bytes(4, "big") for i in range(1 << 20))
# What `weirctl why` says of a port that declares HTTP/2 where there is none.
PASSED = r"^diverted \(l7: .*port name grpc-x\).*passed as TCP.*: [1-9]"


def row(what: str, port: str | Declared, server: str | None = None, handled=RELAYED, **more):
    """Adds a row that the decorated function plays. Of two above one function the lower comes first."""
    declared = port if isinstance(port, Declared) else Declared(port)

    def add(play):
        ROWS.append(Row(what, declared, server or what, play, handled, **more))
        return play

    return add


@row("redis", "cache", handled=LEARNED)
@row("redis", Declared("cache", ipv6=True))
@row("redis", "grpc-x", explained=PASSED)
@row("redis", "cache")
def redis(end: End) -> None:
    cli = ["redis-cli", "-h", end.host, "-p", end.port, "-n", end.side]
    commands = "SET a 1\nINCR a\nGET a\nLPUSH l x y z\nLRANGE l 0 -1\nMULTI\nHSET h f v\nEXEC\nGET l\nDEL a l h\nECHO done\n"
    end.run("commands", cli, input=commands.encode())
    end.run("a value of 4 MB", [*cli, "-x", "SET", "large"], input=LARGE)
    end.run("and back", [*cli, "GET", "large"])
    end.run("20,000 commands in a pipe", [*cli, "--pipe"], input=b"INCR piped\r\n" * 20_000)
    end.run("their sum", [*cli, "GETDEL", "piped"])
    end.run("nothing for a second", [*cli, "BLPOP", "nothing", "1"])
    end.run("an error", [*cli, "-e", "NOSUCH"], expected=1)
    benchmark = ["redis-benchmark", "-h", end.host, "-p", end.port, "--dbnum", end.side, "-q", "-n", 5000, "-c", 20, "-t", "set,get"]
    end.run("redis-benchmark", benchmark, scrub={r"[^\n]*\r(?=[^\n])": "", r"[\d.]+": "N"})


@row("postgres", "store", handled=LEARNED)
@row("postgres", "store")
def postgres(end: End) -> None:
    psql = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", end.host, "-p", end.port, "-U", "postgres"]
    end.run("version", [*psql, "-c", "SELECT version()"])
    end.run("a table", [*psql, "-c", "CREATE TEMP TABLE t AS SELECT g, md5(g::text) m FROM generate_series(1, 50000) g; "
                        "SELECT count(*), md5(string_agg(m, '' ORDER BY g)) FROM t"])  # fmt: skip
    end.run("COPY out", [*psql, "-c", "COPY (SELECT g, md5(g::text) FROM generate_series(1, 100000) g) TO STDOUT"])
    rows = "".join(f"{i}\n" for i in range(100_000))
    script = f"CREATE TEMP TABLE t (x int);\nCOPY t FROM STDIN;\n{rows}\\.\nSELECT count(*), sum(x) FROM t;\n"
    end.run("COPY in", psql, input=script.encode())
    end.run("LISTEN and NOTIFY", [*psql, "-c", f"LISTEN c{end.side}", "-c", f"NOTIFY c{end.side}, 'heard'"], scrub={r"PID \d+": "PID", r"c[12]": "c"})
    end.run("an error", [*psql, "-c", "SELECT 1 / 0"], expected=1)
    # A request to cancel goes by a connection of its own.
    end.run("cancelled", ["timeout", "--foreground", "-s", "INT", "1", *psql, "-c", "SELECT pg_sleep(20)"], expected=124)


# The agent waits for the client as long as for any preface, five seconds: the result is the same, the time isn't.
@row("mariadb", Declared("grpc-x", number=3307), explained=PASSED)
@row("mariadb", Declared("store", number=3307), handled=LEARNED, speaks_first=True)
@row("mariadb", Declared("store", number=3307), speaks_first=True)
def mariadb(end: End) -> None:
    sql = ["mariadb", "--no-defaults", "-h", end.host, "-P", end.port, "-umatrix", "-pmatrix", "-N", "-B", "matrix"]
    wrong = ["mariadb", "--no-defaults", "-h", end.host, "-P", end.port, "-umatrix", "-pno", "-e", "SELECT 1"]
    # All at once, so that those five seconds pass only once.
    begun = [
        end.begin("version", [*sql, "-e", "SELECT version()"]),
        end.begin("a table", [*sql, "-e", "CREATE TEMPORARY TABLE t AS SELECT seq, md5(seq) m FROM seq_1_to_50000; "
                              "SELECT count(*), md5(sum(conv(left(m, 8), 16, 10))) FROM t"]),
        end.begin("many rows", [*sql, "-e", "SELECT seq, md5(seq) FROM seq_1_to_100000"]),
        end.begin("a value of 4 MB", [*sql, "-e", "SELECT md5(repeat('x', 4000000)); SELECT repeat('y', 4000000)"]),
        end.begin("a long statement", sql, input=b"SELECT length('" + b"z" * 4_000_000 + b"');\n"),
        end.begin("an error", [*sql, "-e", "SELECT nothing"], expected=1),
        end.begin("a wrong password", wrong, expected=1, scrub={r"'matrix'@'[\d.]+'": "matrix"}),
    ]  # fmt: skip
    for step in begun:
        step()


@row("ssh", Declared("shell", ipv6=True), speaks_first=True)
@row("ssh", "shell", speaks_first=True)
def ssh(end: End) -> None:
    keys = end.shared / "ssh"
    options = ["-F", "none", "-i", keys / "client", "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={end.folder}/known",
               "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"]  # fmt: skip
    ssh = ["ssh", *options, "-p", end.port, f"root@{end.host}"]
    end.run("a command", [*ssh, "echo out; echo err >&2; exit 7"], expected=7)
    end.run("4 MB both ways", [*ssh, "cat"], input=LARGE)
    end.run("the end of input", [*ssh, "wc -c; echo after the end"], input=LARGE[:100_000])
    end.run("a terminal", ["script", "-qec", " ".join(map(str, [*ssh, "-tt", "'stty size; tty >/dev/null && echo terminal'"])), "/dev/null"])
    source, copy = end.folder / "source", end.folder / "copy"
    source.write_bytes(LARGE)
    sftp = ["sftp", *options, "-P", end.port, "-b", "-", f"root@[{end.host}]"]
    end.run("sftp", sftp, input=f"put {source} {copy}\nget {copy} {copy}.back\n".encode(), scrub={str(end.folder): "", r"[12]-": "-"})
    end.saw("the file", "same" if (end.folder / "copy.back").read_bytes() == LARGE else "differs", known="same")
    stranger = ["ssh", *options[:2], "-i", keys / "host", *options[4:], "-p", end.port, f"root@{end.host}", "true"]
    end.run("an unknown key", stranger, expected=255, scrub={r"@[\d.]+": ""})


def curl(end: End, base: str, *options) -> None:
    dates = {r"Date: [^\r]*": "Date"}

    def get(name: str, *arguments, **more) -> None:
        end.run(name, ["curl", "-sS", "--max-time", 60, *options, *arguments], scrub={end.host: "HOST", **dates}, **more)

    get("a small file", "-i", f"{base}/small")
    get("its head", "-I", f"{base}/small")
    get("10 MB", f"{base}/large")
    get("a range", "-r", "1000-1999", f"{base}/large")
    get("not there", "--fail", f"{base}/nothing", expected=22)
    get("three by one connection", f"{base}/small", f"{base}/large", f"{base}/small", "-w", "%{num_connects} %{http_version}\n")
    get("4 MB up", "-T", "-", "-w", "%{http_code}", f"{base}/upload/{end.side}", input=LARGE, known=re.compile("20[14]"))
    get("and back", "--fail", f"{base}/upload/{end.side}")


@row("http", "http-web")
@row("http", "web")
def http(end: End) -> None:
    curl(end, f"http://{end.address}")
    end.run("an offer of h2c", ["curl", "-sS", "--http2", "-w", "%{http_version}", f"http://{end.address}/small"])
    end.run("HTTP/1.0", ["curl", "-sS", "--http1.0", "-w", "%{http_version}", f"http://{end.address}/small"])


@row("h2c upgrade", "http-web", server="h2c")
@row("h2c upgrade", "web", server="h2c")
def h2c_upgrade(end: End) -> None:
    """The connection begins as HTTP/1.1 and goes on as HTTP/2: neither is weir's then."""
    upgrade = ["curl", "-sS", "--max-time", 60, "--http2"]
    end.run("a small file", [*upgrade, "-w", "%{http_version}", f"http://{end.address}/small"])
    # (Debian's curl has no room for a large answer to the upgrade itself.)
    end.run("three by one connection", [*upgrade, *(f"http://{end.address}/{name}" for name in ("small", "large", "small")),
                                        "-w", "%{num_connects} %{http_version}\n"])  # fmt: skip
    end.run("nghttp", ["nghttp", "--upgrade", f"http://{end.address}/large"])
    said = end.finish(end.start(["nghttp", "--upgrade", "-nv", f"http://{end.address}/small"])).decode(errors="replace")
    end.saw("the upgrade", "succeeded" if "HTTP Upgrade success" in said else said, known="succeeded")


@row("https", "api", handled=LEARNED)
@row("https", "api")
def https(end: End) -> None:
    base = f"https://{end.address}"
    curl(end, base, "--cacert", end.shared / "tls" / "ca.crt")
    curl(end, base, "--cacert", end.shared / "tls" / "ca.crt", "--http1.1")
    end.run("an unknown authority", ["curl", "-s", f"{base}/small"], expected=60)


@row("websocket", "http-x")
@row("websocket", "events")
def websocket(end: End) -> None:
    end.run("messages", [PYTHON, APPS / "websocket_client.py", f"ws://{end.address}"])


@row("echo", "grpc-raw")
@row("echo", "raw", handled=LEARNED)
@row("echo", "raw")
def echo(end: End) -> None:
    for case in ("half-close", "nothing", "reset", "slow", "byte by byte"):
        end.run(case, [PYTHON, APPS / "echo_client.py", end.host, end.port, case])


@row("1 GB both ways", "grpc-bulk", server="echo")
@row("1 GB both ways", "bulk", server="echo")
def gigabyte(end: End) -> None:
    end.run("sums", [PYTHON, APPS / "echo_client.py", end.host, end.port, "bulk"], timeout=300, scrub={r"in [\d.]+ s": ""})
