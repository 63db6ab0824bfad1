"""The bench's report: ratios are of one round, medians are of ratios, and a goal that is not met says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from bench import matrix, report  # noqa: E402
from bench.load import sample  # noqa: E402

META = {"date": "2026-01-31", "machine": "2 cores", "command": "make bench", "rounds": 3, "missing": {},
        "memory": [{"proxy": "weir", "what": "idle connection", "count": 5000, "bytes": 6144}],
        "routes": [{"what": "no VirtualService", "ns": 21.0}, {"what": "ten rules", "ns": 271.0}],
        "sizes": [{"what": "10000 of each", "bytes": 200 * 2**20, "build_seconds": 0.25}], "second_opinion": {"1x1": 0.46},
        "hooks": {"weir_connect4": {"ns": 312.5, "runs": 5000}, "weir_connect6": {"ns": 512.5, "runs": 5000}}}  # fmt: skip


def one(round=1, proxy="weir", shape="1x1", payload="tiny", cpu=10.0, **more):
    values = {"system_us": cpu * 3, "machine_us": cpu * 3, "rps": 1000.0, "mean_us": 40.0, "p50_us": 39.0, "p99_us": cpu * 9,
              "segments": 4.0, "shares": (0.5, 0.25, 0.25)}  # fmt: skip
    return report.Sample(round, proxy, shape, payload, cpu, **{**values, **more})


def pair(cpus, beside, **more):
    """Samples of weir and HAProxy, a round each."""
    return [one(n, "weir", cpu=c, **more) for n, c in enumerate(cpus, 1)] + [
        one(n, "haproxy", cpu=c, **more) for n, c in enumerate(beside, 1)
    ]


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    # The medians alone would say 20/40: the machine was slower in the second round, for both.
    rows = report.rows(pair([10, 60, 20], [40, 100, 25]))
    weir = next(r for r in rows if r["proxy"] == "weir")
    assert weir["cpu_to_haproxy"] == {"min": 0.25, "median": 0.6, "max": 0.8}
    assert weir["cpu_us_per_rpc"] == {"min": 10, "median": 20, "max": 60}


def test_a_round_without_haproxy_has_no_ratio():
    samples = [s for s in pair([10, 60, 20], [40, 100, 25]) if (s.proxy, s.round) != ("haproxy", 2)]
    assert next(r for r in report.rows(samples) if r["proxy"] == "weir")["cpu_to_haproxy"]["median"] == 0.525
    assert report.rows([one()])[0]["cpu_to_haproxy"] is None


def test_rows_have_the_agreed_fields():
    rows = report.rows([one(1, errors={"grpc-status 14": 2}), one(2, shares=(0.3, 0.3, 0.4), errors={"HTTP 503": 1})])
    assert len(rows) == 1
    row = rows[0]
    assert (row["proxy"], row["shape"], row["payload"], row["errors"]) == ("weir", "1x1", "tiny", 3)
    assert row["errors_by_cause"] == {"grpc-status 14": 2, "HTTP 503": 1}
    assert row["shares"] == [0.4, 0.275, 0.325]
    for name in ("cpu_us_per_rpc", "system_us_per_rpc", "rps"):
        assert set(row[name]) == {"min", "median", "max"}


def met(rows, words, **meta):
    """The verdict on the one goal whose name has all the words."""
    verdicts = report.verdicts(rows, {"memory": [], "routes": [], "hooks": None, **meta})
    (verdict,) = [v for goal, v in verdicts if all(w in goal for w in words.split("|"))]
    return verdict


IN_TURN = matrix.IN_TURN_SHAPE
# name, weir's figures, HAProxy's, words of the goal, begin of its verdict
VERDICTS = [
    ("met", dict(cpus=[6.9, 7.0, 7.1], beside=[10, 10, 10], shape=IN_TURN), "cpu at 1x1, in turn, tiny", "met: 0.70"),
    ("not met", dict(cpus=[7.0, 7.1, 7.2], beside=[10, 10, 10], shape=IN_TURN), "cpu at 1x1, in turn, tiny", "NOT met: 0.71"),
    ("other shape", dict(cpus=[1, 1, 1], beside=[10, 10, 10]), "cpu at 1x100, tiny", "not measured"),
    ("system", dict(cpus=[11, 11, 11], beside=[10, 10, 10], shape=IN_TURN), "system at 1x1,", "NOT met: 1.10"),
    ("p99", dict(cpus=[11, 9, 9], beside=[10, 10, 10], shape="open 70 %"), "p99 at open 70 %", "met: 0.90"),
    ("varying", dict(cpus=[5], beside=[10], shape="1x100", payload="varying"), "1x100, varying", "NOT met: 0.50"),
]


@pytest.mark.parametrize("figures,words,expected", [v[1:] for v in VERDICTS], ids=[v[0] for v in VERDICTS])
def test_verdicts(figures, words, expected):
    assert met(report.rows(pair(**figures)), words) == expected


# begin of the shape's name, weir's figures there and in its baseline, begin of the verdict
COMPARISONS = [
    ("1x1, 10000 endpoints", [11.5], [10], "NOT met: 1.15"),
    ("1x100, another", [5.1, 9.2, 5.3], [5, 9, 6], "met: 1.02"),
    ("1x100, another", [5.2, 9.4, 5.3], [5, 9, 6], "NOT met: 1.04"),
    ("1x100, ten rules", [5.4, 9.4, 5.9], [5, 9, 6], "met: 0.40"),
    ("1x100, ten rules", [5.6, 9.7, 6.9], [5, 9, 6], "NOT met: 0.70"),
    ("1x100, 10000 of each", [5.1, 9.3, 5.3], [5, 9, 6], "met: 1.02"),
]


@pytest.mark.parametrize("shape,cpus,baseline,expected", COMPARISONS)
def test_verdicts_on_what_is_compared_with_another_shape_round_by_round(shape, cpus, baseline, expected):
    (comparison,) = [c for c in matrix.COMPARISONS if c.shape.startswith(shape)]
    figures = ((comparison.shape, cpus), (comparison.baseline, baseline))
    rows = report.rows([one(n, shape=name, cpu=cpu) for name, values in figures for n, cpu in enumerate(values, 1)])
    assert met(rows, f"cpu at {comparison.shape}:") == expected


def test_verdicts_on_memory_and_errors():
    rows = report.rows([one()])
    assert met(rows, "bytes per idle connection", memory=META["memory"]) == "met: 6144"
    assert met(rows, "bytes per idle connection") == "not measured"
    assert met(rows, "no errors") == "met: 0"
    assert met(report.rows([one(errors={"reset": 1})]), "no errors") == "NOT met: weir 1x1 tiny (1)"
    overloaded = report.rows([one(), one(proxy="envoy", errors={"reset": 1})])
    assert met(overloaded, "no errors") == "met: 0"
    assert "Calls that failed: envoy 1x1 tiny (1)." in report.markdown(overloaded, META)


# proxy, payload, beside, what of the sample, figures of both round by round, begin of the verdict
TCP = [
    ("weir-tcp", "tcp bulk", "haproxy-tcp", "cpu", ([1, 8, 1], [2, 8, 2]), "met: 0.50"),
    ("weir-tcp", "tcp connect", "haproxy-tcp", "cpu", ([3, 9, 3], [2, 10, 2]), "NOT met: 1.50"),
    ("weir-tcp", "tcp greeting", "haproxy-tcp", "p50_us", ([100, 90, 80], [101, 89, 82]), "met: 0.99"),
    ("weir-learned", "tcp connect", "direct", "rps", ([960, 970, 500], [1000, 1000, 1000]), "met: 1.04"),
    ("weir-learned", "tcp bulk", "direct", "rps", ([940, 960, 500], [1000, 1000, 1000]), "NOT met: 1.06"),
]


@pytest.mark.parametrize("proxy,payload,beside,what,figures,expected", TCP)
def test_verdicts_on_plain_tcp(proxy, payload, beside, what, figures, expected):
    shape = matrix.TCP_ROWS[payload].shape
    rows = report.rows(
        [one(n, name, shape, payload, **{what: value})
         for name, values in zip((proxy, beside), figures) for n, value in enumerate(values, 1)]
    )  # fmt: skip
    assert met(rows, f"{proxy}'s|{payload}:") == expected
    assert report.markdown(rows, {**META, "memory": []}).count(f"{payload}, {shape}: {expected.split(': ')[1]} of {beside}'s.") == 1


def test_every_goal_on_plain_tcp_is_measured():
    assert {(goal.shape, goal.payload) for goal in matrix.TCP_GOALS} == {(r.shape, p) for p, r in matrix.TCP_ROWS.items()}
    assert {row.mode for row in matrix.TCP_ROWS.values()} == set(matrix.TCP_MODES)
    assert all(goal.metric in report.METRICS for goal in (*matrix.GOALS, *matrix.TCP_GOALS))


def test_verdicts_on_the_connect_hooks():
    assert met([], "weir_connect4", hooks=META["hooks"]) == "met: 312"
    assert met([], "weir_connect6", hooks=META["hooks"]) == "NOT met: 512"
    assert met([], "weir_connect6") == "not measured"


def test_verdicts_on_routing_alone():
    assert met([], "routing with ten rules", routes=META["routes"]) == "met: 250"
    slow = [META["routes"][0], {"what": "ten rules", "ns": 522.0}]
    assert met([], "routing with ten rules", routes=slow) == "NOT met: 501"
    assert met([], "routing with ten rules") == "not measured"


def test_beside_the_l4_floor():
    rows = report.rows([one(proxy=p, shape="10x4", payload="64 KB", cpu=c) for p, c in (("weir", 30), ("haproxy-tcp", 10))])
    assert met(rows, "64 KB|haproxy-tcp") == "NOT met: 3.00"


def test_every_goal_is_a_row_of_the_full_run():
    assert {(goal.shape, goal.payload) for goal in matrix.GOALS} <= {*matrix.FULL, (matrix.IN_TURN_SHAPE, "tiny")}
    assert set(matrix.QUICK) <= set(matrix.FULL)
    assert {shape for shape, _ in matrix.FULL} <= set(matrix.SHAPES)
    assert {payload for _, payload in matrix.FULL} <= set(matrix.PAYLOADS)


def test_a_load_without_calls_is_an_error():
    nothing = {"completed": 0, "total": 0, "seconds": 1.0, "errors": {}, "backends": [],
               "cpu_us": {"process": 5, "cgroup": 7, "kernel": 1, "busy": 9},
               "latency_us": {"mean": 0, "p50": 0, "p99": 0}}  # fmt: skip
    made = sample(nothing, 1, "weir", "1x1", "tiny", 0, 0.0)
    assert made.errors == {"no call completed": 1}
    assert made.shares == (0, 0, 0)


def test_every_comparison_is_measured():
    measured = {matrix.growth_shape(n) for n in matrix.GROWTH}
    measured |= {matrix.configured_shape(name) for name in (*matrix.RULES, *matrix.SIZES)}
    assert {shape for c in matrix.COMPARISONS for shape in (c.shape, c.baseline)} <= measured
    assert len({c.shape for c in matrix.COMPARISONS}) == len(matrix.COMPARISONS)
    assert all(what.rules <= len(matrix.MISSES) + 1 for what in (*matrix.RULES.values(), *matrix.SIZES.values()))


def test_tables_name_every_row():
    rows = report.rows(pair([5, 5], [10, 10]) + pair([2, 2], [4, 4], shape="1x100"))
    lines = report.table(rows).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["1x1", "tiny", "weir"], ["1x1", "tiny", "haproxy"], ["1x100", "tiny", "weir"], ["1x100", "tiny", "haproxy"],
    ]  # fmt: skip
    compared = [one(shape=c.shape, cpu=9) for c in matrix.COMPARISONS]
    baselines = [one(shape=baseline, cpu=8) for baseline in {c.baseline for c in matrix.COMPARISONS}]
    text = report.markdown(rows + report.rows(compared + baselines), META)
    for words in [
        "`make bench` on 2026-01-31, 2 cores, 3 rounds.",
        "| 1x1, tiny | 10.0 (10.0-10.0) | 0.50 (0.50-0.50) |",
        "| 1x100, tiny | 0.50 (0.50-0.50) | 0.50 (0.50-0.50) | 1000 | 0 | 0.50 0.25 0.25 |",
        "weir: 6.0 KiB per idle connection.",
        "at 1x100, ten rules: 1.00 us more than that at 1x100, no VirtualService.",
        "at 1x1, 10000 endpoints: 1.12 of that at 1x1, 10 endpoints.",
        "weir with 10000 of each (VirtualServices and endpoints): 200 MiB resident, the configuration built in 250.0 ms.",
        "0.46 at 1x1",
        "The connect hooks with a learned verdict: 312 ns (weir_connect4), 512 ns (weir_connect6).",
    ]:
        assert words in text


def test_the_readme_has_a_section_that_can_be_replaced():
    text = (REPOSITORY / "README.md").read_text()
    once = report.replace_section(text, "| a |")
    assert f"{report.BEGIN}\n| a |\n{report.END}" in once
    assert report.replace_section(once, "| b |") == once.replace("| a |", "| b |")
    with pytest.raises(ValueError):
        report.replace_section("no markers", "x")


def test_check_reads_what_the_bench_wrote(tmp_path):
    (tmp_path / "bench.json").write_text(json.dumps(report.rows(pair([6], [10], shape=IN_TURN))))
    (tmp_path / "bench-meta.json").write_text(json.dumps(META))
    done = subprocess.run(
        [REPOSITORY / "tests/bench/bench", "--check", "--reports", tmp_path], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1  # most goals are not measured
    assert "haproxy's met: 0.60" in " ".join(done.stdout.split())
    assert "not measured" in done.stdout
