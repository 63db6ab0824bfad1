"""Samples to rows, rows to ratios, tables and verdicts. Pure: nothing here measures or reads a clock."""

import statistics
from dataclasses import dataclass, field

from . import matrix

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
METRICS = ("cpu", "system", "p50", "p99", "interval")


@dataclass(frozen=True)
class Sample:
    """One measurement of a proxy: times in microseconds, shares of the backends in parts of 1."""

    round: int
    proxy: str
    shape: str
    payload: str
    cpu_us: float
    system_us: float
    machine_us: float  # from /proc/stat less the idle baseline: with neighbours on the machine, noise
    rps: float
    mean_us: float
    p50_us: float
    p99_us: float
    segments: float  # TCP segments per RPC, of all pods and backends
    errors: dict = field(default_factory=dict)
    shares: tuple = ()

    def metric(self, name: str) -> float:
        """One of METRICS; "interval" is the time from one call's end to the next one's."""
        interval = 1e6 / self.rps if self.rps else float("inf")
        values = (self.cpu_us, self.system_us, self.p50_us, self.p99_us, interval)
        return dict(zip(METRICS, values, strict=True))[name]


def spread(values) -> dict | None:
    """Least, median and greatest; None of nothing."""
    values = list(values)
    if not values:
        return None
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


def pairs(samples, of: tuple, beside: tuple, metric: str) -> list[tuple[float, float]]:
    """The metric of row `of` (proxy, shape, payload) and of row `beside`, round by round."""
    rounds = {}
    for sample in samples:
        rounds.setdefault((sample.proxy, sample.shape, sample.payload), {})[sample.round] = sample.metric(metric)
    ours, theirs = rounds.get(of, {}), rounds.get(beside, {})
    return [(ours[n], theirs[n]) for n in sorted(ours) if theirs.get(n)]


def ratios(samples, of: tuple, beside: tuple, metric: str) -> list[float]:
    """The first of each pair as a part of the second."""
    return [ours / theirs for ours, theirs in pairs(samples, of, beside, metric)]


def rows(samples) -> list[dict]:
    """bench.json: a row for each proxy, shape and payload, in the order of the first samples."""
    grouped = {}
    for sample in samples:
        grouped.setdefault((sample.proxy, sample.shape, sample.payload), []).append(sample)
    result = []
    baselines = {c.shape: c.baseline for c in matrix.COMPARISONS}
    for (proxy, shape, payload), group in grouped.items():
        beside = ("haproxy", shape, payload)
        by_round = pairs(samples, (proxy, shape, payload), (proxy, baselines.get(shape), payload), "cpu")
        result.append({
            "proxy": proxy,
            "shape": shape,
            "payload": payload,
            "cpu_us_per_rpc": spread(s.cpu_us for s in group),
            "system_us_per_rpc": spread(s.system_us for s in group),
            "rps": spread(s.rps for s in group),
            "errors": sum(sum(s.errors.values()) for s in group),
            "shares": [round(statistics.mean(each), 3) for each in zip(*(s.shares for s in group))],
            "rounds": len(group),
            "cpu_to_haproxy": spread(ratios(samples, (proxy, shape, payload), beside, "cpu")),
            "system_to_haproxy": spread(ratios(samples, (proxy, shape, payload), beside, "system")),
            "p99_to_haproxy": spread(ratios(samples, (proxy, shape, payload), beside, "p99")),
            "cpu_to_baseline": spread(ours / base for ours, base in by_round),
            "cpu_over_baseline_us": spread(ours - base for ours, base in by_round),
            "machine_us_per_rpc": spread(s.machine_us for s in group),
            "mean_us": spread(s.mean_us for s in group),
            "p50_us": spread(s.p50_us for s in group),
            "p99_us": spread(s.p99_us for s in group),
            "segments_per_rpc": spread(s.segments for s in group),
            "errors_by_cause": _sum(s.errors for s in group),
            "to_others": _to_others(samples, proxy, shape, payload),
        })  # fmt: skip
    return result


def _to_others(samples, proxy: str, shape: str, payload: str) -> dict:
    """{proxy: {metric: ratios}} for the goals that stand beside another proxy than HAProxy."""
    found = {}
    for goal in (*matrix.GOALS, *matrix.TCP_GOALS):
        if (goal.proxy, goal.shape, goal.payload) != (proxy, shape, payload) or goal.beside == "haproxy":
            continue
        of_rounds = ratios(samples, (proxy, shape, payload), (goal.beside, shape, payload), goal.metric)
        found.setdefault(goal.beside, {})[goal.metric] = spread(of_rounds)
    return found


def _sum(tallies) -> dict:
    total = {}
    for tally in tallies:
        for cause, count in tally.items():
            total[cause] = total.get(cause, 0) + count
    return total


def _median(row: dict, name: str, form: str) -> str:
    return format(row[name]["median"], form) if row.get(name) else ""


def _cells(row: dict) -> list[str]:
    cpu = row["cpu_us_per_rpc"]
    span = "" if row["proxy"] == "direct" else f"{cpu['median']:.1f} ({cpu['min']:.1f}-{cpu['max']:.1f})"
    ratio = "" if row["proxy"] == "direct" else _median(row, "cpu_to_haproxy", ".2f")
    return [
        row["shape"],
        row["payload"],
        row["proxy"],
        span,
        ratio,
        _median(row, "system_us_per_rpc", ".1f"),
        _median(row, "rps", ".0f"),
        _median(row, "p99_us", ".0f"),
        _median(row, "segments_per_rpc", ".2f"),
        str(row["errors"]),
        " ".join(f"{share:.2f}" for share in row["shares"]),
    ]


HEADINGS = (
    ["shape", "payload", "proxy", "CPU us/RPC (range)", "/haproxy", "system us", "RPC/s"]
    + ["p99 us", "segments", "errors", "shares"]
)  # fmt: skip


def by_shape(rows: list[dict]) -> list[dict]:
    """Rows of one shape and payload side by side."""
    order = {key: i for i, key in reversed(list(enumerate((r["shape"], r["payload"]) for r in rows)))}
    return sorted(rows, key=lambda r: order[r["shape"], r["payload"]])


def table(rows: list[dict]) -> str:
    """For a terminal."""
    lines = [HEADINGS] + [_cells(row) for row in by_shape(rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    left = {0, 1, 2, 10}
    return "\n".join(
        "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    )


def verdicts(rows: list[dict], meta: dict) -> list[tuple[str, str]]:
    """(goal, "met: ...", "NOT met: ..." or "not measured") for each goal, from bench.json and its meta."""
    result = []
    for goal in (*matrix.GOALS, *matrix.TCP_GOALS):
        name = f"{goal.proxy}'s {goal.metric} at {goal.shape}, {goal.payload}: at most {goal.limit:.2f} of {goal.beside}'s"
        result.append((name, _verdict(ratio(rows, goal), goal.limit)))
    for comparison in matrix.COMPARISONS:
        most = f"{comparison.limit} us more than" if comparison.over else f"{comparison.limit:.2f} of"
        name = f"weir's cpu at {comparison.shape}: at most {most} that at {comparison.baseline}"
        result.append((name, _verdict(compared(rows, comparison), comparison.limit)))
    for what, limit in matrix.MEMORY_LIMITS.items():
        bytes_each = next((m["bytes"] for m in meta["memory"] if m["proxy"] == "weir" and m["what"] == what), None)
        result.append((f"weir's bytes per {what}: at most {limit}", _verdict(bytes_each, limit)))
    routes = {route["what"]: route["ns"] for route in meta["routes"]}
    for what, limit in matrix.ROUTE_LIMITS.items():
        more = routes[what] - routes[matrix.ROUTE_BASELINE] if routes else None
        result.append((f"routing with {what}: at most {limit} ns more than with {matrix.ROUTE_BASELINE}", _verdict(more, limit)))
    for hook in matrix.HOOKS:
        ns = meta["hooks"] and meta["hooks"][hook]["ns"]
        result.append((f"{hook} with a learned verdict: at most {matrix.HOOK_LIMIT_NS} ns", _verdict(ns, matrix.HOOK_LIMIT_NS)))
    wrong = _errors([row for row in rows if row["proxy"].startswith(("weir", "direct"))])
    result.append(("no errors of weir's, nor without it", "met: 0" if not wrong else "NOT met: " + ", ".join(wrong)))
    return result


def ratio(rows: list[dict], goal: matrix.Goal) -> float | None:
    """The median of the rounds' ratios; None if a side is missing."""
    row = next((r for r in rows if (r["proxy"], r["shape"], r["payload"]) == (goal.proxy, goal.shape, goal.payload)), None)
    if not row:
        return None
    beside_haproxy = goal.beside == "haproxy"
    part = row[f"{goal.metric}_to_haproxy"] if beside_haproxy else row["to_others"].get(goal.beside, {}).get(goal.metric)
    return part["median"] if part else None


def _verdict(value: float | None, limit: float) -> str:
    if value is None:
        return "not measured"
    text = f"{value:.2f}" if value < 100 else f"{value:.0f}"
    return f"met: {text}" if value <= limit else f"NOT met: {text}"


def markdown(rows: list[dict], meta: dict) -> str:
    """The README's tables: CPU per RPC of each proxy beside HAProxy's, and what must stand beside weir's figures."""
    cells = {(r["proxy"], r["shape"], r["payload"]): r for r in rows}
    calls = list(dict.fromkeys((r["shape"], r["payload"]) for r in by_shape(rows) if r["proxy"] == "haproxy"))
    beside = dict.fromkeys(r["proxy"] for r in rows if (r["shape"], r["payload"]) in calls)
    proxies = [p for p in beside if p not in ("direct", "haproxy")]
    cpu, whole = [], []
    for shape, payload in calls:
        base = cells["haproxy", shape, payload]["cpu_us_per_rpc"]
        parts = [_part(cells.get((proxy, shape, payload)), "cpu_to_haproxy") for proxy in proxies]
        cpu.append([f"{shape}, {payload}", f"{base['median']:.1f} ({base['min']:.1f}-{base['max']:.1f})", *parts])
        if weir := cells.get(("weir", shape, payload)):
            shares = " ".join(f"{share:.2f}" for share in weir["shares"])
            whole.append([f"{shape}, {payload}", _part(weir, "system_to_haproxy"), _part(weir, "p99_to_haproxy"),
                          _median(weir, "rps", ".0f"), str(weir["errors"]), shares])  # fmt: skip
    return "\n".join([
        f"`{meta['command']}` on {meta['date']}, {meta['machine']}, {meta['rounds']} rounds.",
        "Connections x streams, payload; CPU per RPC of HAProxy in microseconds, of the others as parts of HAProxy's in the same",
        "round: median (range).",
        "",
        *_grid(["calls", "haproxy, us", *proxies], cpu),
        "",
        "weir beside HAProxy: CPU of the whole system, p99 latency; calls a second, errors, the backends' shares.",
        "",
        *_grid(["calls", "system", "p99", "RPC/s", "errors", "shares"], whole),
        *_facts(rows, meta),
    ])  # fmt: skip


def _errors(rows: list[dict]) -> list[str]:
    return [f"{r['proxy']} {r['shape']} {r['payload']} ({r['errors']})" for r in rows if r["errors"]]


def _part(row: dict | None, name: str) -> str:
    part = row and row[name]
    return f"{part['median']:.2f} ({part['min']:.2f}-{part['max']:.2f})" if part else ""


def _grid(headings: list[str], lines: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *lines)]


def _facts(rows: list[dict], meta: dict) -> list[str]:
    facts = [f"{m['proxy']}: {m['bytes'] / 1024:.1f} KiB per {m['what']}." for m in meta["memory"]]
    for comparison in matrix.COMPARISONS:
        if (value := compared(rows, comparison)) is not None:
            text = f"{value:.2f} us more than" if comparison.over else f"{value:.2f} of"
            facts.append(f"weir's CPU per RPC at {comparison.shape}: {text} that at {comparison.baseline}.")
    for goal in matrix.TCP_GOALS:
        if (part := ratio(rows, goal)) is not None:
            facts.append(f"{goal.proxy}'s {goal.metric} at {goal.payload}, {goal.shape}: {part:.2f} of {goal.beside}'s.")
    if meta["hooks"]:
        each = ", ".join(f"{hook['ns']:.0f} ns ({name})" for name, hook in meta["hooks"].items())
        facts.append(f"The connect hooks with a learned verdict: {each}.")
    for route in meta["routes"]:
        facts.append(f"Routing a request, alone, with {route['what']}: {route['ns']:.0f} ns.")
    for size in meta["sizes"]:
        facts.append(
            f"weir with {size['what']} (VirtualServices and endpoints): {size['bytes'] / 2**20:.0f} MiB resident, "
            f"the configuration built in {size['build_seconds'] * 1000:.1f} ms."
        )
    if by_h2load := meta.get("second_opinion"):
        parts = ", ".join(f"{part:.2f} at {shape}" for shape, part in by_h2load.items())
        facts.append(f"The same by h2load, weir beside HAProxy: {parts}.")
    facts += [f"Calls that failed: {row}." for row in _errors(rows)]
    return ["", *(f"- {fact}" for fact in facts)] if facts else []


def compared(rows: list[dict], comparison: matrix.Comparison) -> float | None:
    """The median of the rounds' ratios, or differences in microseconds."""
    name = "cpu_over_baseline_us" if comparison.over else "cpu_to_baseline"
    row = next((r for r in rows if (r["proxy"], r["shape"]) == ("weir", comparison.shape)), None)
    return row[name]["median"] if row and row[name] else None


def replace_section(text: str, section: str) -> str:
    """The text with `section` between the two markers; ValueError if they are not there, once and in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the text has no section between {BEGIN} and {END}")
    return text[: text.index(BEGIN) + len(BEGIN)] + "\n" + section + "\n" + text[text.index(END) :]
