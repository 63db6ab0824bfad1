"""How long an honest pod's RPCs take, while others do what they do."""


def latency(pod, vip: str, port: int, seconds: float, first=()) -> int:
    """RPCs of a pod for that long, one after the other, each of which must succeed: their latency at 99 %, in microseconds.
    The command line begins with `first`."""
    folder = pod.lab.folder
    log, body = folder / f"latency-{pod.name}.log", folder / f"body-{pod.name}"
    log.unlink(missing_ok=True)
    body.write_bytes(bytes(5))
    pod.run(
        [*first, "h2load", "-c", 1, "-m", 1, "-D", f"{int(seconds * 1000)}ms", "-d", body, "-H", "content-type: application/grpc",
         f"--log-file={log}", f"http://{vip}:{port}/"],
        timeout=seconds + 20,
    )  # fmt: skip
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    assert [row for row in rows if row[1] != "200"] == [], "the honest pod's RPCs failed"
    if len(rows) < 100 * seconds:
        return int(1e6 * seconds)  # held up
    return sorted(int(row[2]) for row in rows)[int(0.99 * len(rows))]
