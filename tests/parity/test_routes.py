"""Two hundred requests, drawn near rules that are drawn too: weir and Envoy take the same rule for each."""

import random

import pytest
from h2_peers import Backend
from pair import begin

SETS, REQUESTS = 10, 20
PATHS = ["/", "/pkg.Greeter/Hello", "/pkg.Greeter/hello", "/pkg.Greeter/Bye", "/pkg.Greeters/Hello", "/pkg.Greeter/Hello?v=1", "/other/x?v=2&w=1"]
VALUES = ["", "1", "2", "12", "a", "A", "ab"]
HEADERS = ["x-a", "x-b", "x-c"]


def text_match(draw: random.Random, values: list[str]) -> dict:
    value = draw.choice([v for v in values if v])
    kind = draw.choice(["exact", "prefix", "regex"])
    return {kind: value.replace("?", "\\?") + draw.choice(["", ".*", "[0-9]?"]) if kind == "regex" else value}


def drawn_match(draw: random.Random) -> dict:
    match: dict = {}
    if draw.random() < 0.6:
        match["uri"] = text_match(draw, [path.split("?")[0] for path in PATHS])
        if draw.random() < 0.3:
            match["ignoreUriCase"] = True
    for name in HEADERS:
        if draw.random() < 0.3:
            match.setdefault("headers", {})[name] = draw.choice([{}, text_match(draw, VALUES)])
        elif draw.random() < 0.2:
            match.setdefault("withoutHeaders", {})[name] = draw.choice([{}, text_match(draw, VALUES)])
    if draw.random() < 0.2:
        match["method"] = {"exact": draw.choice(["POST", "GET"])}
    if draw.random() < 0.2:
        match["authority"] = text_match(draw, ["greeter", "greeter:80", "other"])
    if draw.random() < 0.2:
        match["queryParams"] = {draw.choice(["v", "w"]): draw.choice([{"exact": "1"}, {"exact": "2"}, {"regex": "[12]"}])}
    return match


def drawn_rules(draw: random.Random) -> list[dict]:
    return [
        {
            "match": [drawn_match(draw) or {"method": {"exact": "PUT"}} for _ in range(draw.randint(1, 3))],
            "route": [{"destination": {}}],
            "headers": {"response": {"set": {"x-rule": f"rule-{number}"}}},
        }
        for number in range(draw.randint(2, 8))
    ]


def drawn_request(draw: random.Random) -> dict:
    fields = {":authority": draw.choice(["greeter", "greeter:80", "other"]), ":method": draw.choice(["POST", "POST", "GET"])}
    return {"path": draw.choice(PATHS)} | fields | {name: draw.choice(VALUES) for name in HEADERS if draw.random() < 0.5}


@pytest.fixture(scope="module")
def routed(lab, pair):
    pod = lab.pod("backend")
    backend = Backend(pod, lambda request: request.answer())
    rules = {}
    for seed in range(SETS):
        rules[seed] = drawn_rules(random.Random(seed))
        pair.add(f"set-{seed}", rules[seed], {}, [pod])
    pair.start()
    taken_rules: set[tuple] = set()
    yield pair, rules, taken_rules
    backend.close()


def taken(connection, request: dict) -> str:
    response = connection.finish(begin(connection, **request), 10)
    return response.headers.get("x-rule", f"none, status {response.grpc_status}")


@pytest.mark.parametrize("seed", range(SETS))
def test_the_same_rule_is_taken(routed, seed):
    pair, rules, taken_rules = routed
    draw = random.Random(1000 + seed)
    weir, envoy = pair.connect(f"set-{seed}")
    with weir, envoy:
        for _ in range(REQUESTS):
            request = drawn_request(draw)
            found, expected = taken(weir, request), taken(envoy, request)
            assert found == expected, f"{request}\n{rules[seed]}"
            taken_rules.add((seed, found))


def test_the_draw_was_a_fair_one(routed):
    """Neither all requests met the first rule nor did most meet none."""
    found = routed[2]
    assert len([rule for _, rule in found if rule.startswith("rule-")]) >= 20
    assert len([rule for _, rule in found if not rule.startswith("rule-")]) >= 3
