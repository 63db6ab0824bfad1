"""The table of hardening as attacks: each with the one counter that must show that its limit acted."""

from dataclasses import dataclass

from attackers import (
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY, PUSH, SETTINGS,
    Attack, HostileBackend, block, frame, ids, integer, literal, request, reset, settings, window_update,
)  # fmt: skip

FOR_EVER = float("inf")
HTTP2 = "weir_http2_limits_total"
PROTOCOL_ERRORS = "weir_downstream_protocol_errors_total"
UPSTREAM_ERRORS = "weir_upstream_protocol_errors_total"
POD_LIMITS = "weir_pod_limits_total"


@dataclass
class Row:
    name: str
    attack: Attack | HostileBackend
    counter: tuple | None = None  # (metric, labels) of what stops it; None for what is merely borne
    asking: Attack | None = None  # the requests that a hostile backend answers, if not the usual ones


def limit(name: str) -> tuple:
    return HTTP2, {"role": "downstream", "limit": name}


def up_limit(name: str) -> tuple:
    return HTTP2, {"role": "upstream", "limit": name}


def pod_limit(name: str) -> tuple:
    return POD_LIMITS, {"limit": name}


def flagged(flag: str) -> tuple:
    return "istio_requests_total", {"response_flags": flag}


def flood(one: bytes, bytes_at_once=32 << 10) -> bytes:
    return one * (bytes_at_once // len(one))


BROKEN = PROTOCOL_ERRORS, {}
UPSTREAM_BROKEN = UPSTREAM_ERRORS, {}
GRANT_ALL = settings((4, 0x7FFFFFFF)) + window_update(0, 0x7FFF0000)
OPEN = request(1, end=False)
# A block that fills the dynamic table with one field and then refers to it again and again.
BOMB = literal(b"x", b"y" * 3900, indexed=True) + block() + b"\xbe" * 4000
RESET_MAKERS = {
    "a window update of 0": lambda i: request(i, end=False) + window_update(i, 0),
    "a window that overflows": lambda i: request(i, end=False) + window_update(i, 0x7FFFFFFF),
    "data beyond its length": lambda i: request(i, (b"content-length", b"1"), end=False) + frame(DATA, 0, i, b"xx"),
    "data after the end": lambda i: request(i) + frame(DATA, 0, i, b"x"),
    "a short PRIORITY": lambda i: request(i, end=False) + frame(PRIORITY, 0, i, b"xxxx"),
    "a stream of itself": lambda i: request(i, end=False) + frame(PRIORITY, 0, i, i.to_bytes(4, "big") + b"x"),
}
SMUGGLED = {
    "CR LF": lambda i: request(i, (b"x", b"a\r\nb: c")),
    "NUL": lambda i: request(i, (b"x", b"a\0b")),
    "uppercase": lambda i: request(i, (b"X-Y", b"z")),
    "transfer-encoding": lambda i: request(i, (b"transfer-encoding", b"chunked")),
    "a connection header": lambda i: request(i, (b"connection", b"x")),
    "a late pseudo-header": lambda i: request(i, (b":path", b"/")),
    "a path without slash": lambda i: request(i, path=b"large"),
    "two lengths": lambda i: request(i, (b"content-length", b"1, 2")),
    "a length, then the end": lambda i: request(i, (b"content-length", b"5")),
}
# So many PINGs that the agent drains the connection, and the ACK of the one that goes between its two GOAWAYs.
DRAINED = frame(PING, 0, 0, bytes(8)) * 1700 + frame(PING, ACK, 0, b"weirdrn1")

ROWS = [
    Row("PING flood", Attack(again=flood(frame(PING, 0, 0, bytes(8)))), limit("ping_flood")),
    Row("PING flood, answers not read", Attack(again=flood(frame(PING, 0, 0, bytes(8))), reads=False), limit("ping_flood")),
    Row("SETTINGS flood", Attack(again=flood(settings())), limit("settings_flood")),
    Row("empty DATA flood", Attack(OPEN, flood(frame(DATA, 0, 1))), limit("empty_data_flood")),
    Row("PRIORITY flood", Attack(again=flood(frame(PRIORITY, 0, 9, bytes(5)))), limit("priority_flood")),
    Row("unknown frames", Attack(again=flood(frame(99, 0, 0))), limit("ignored_frame_flood")),
    Row("WINDOW_UPDATE flood", Attack(again=flood(window_update(0, 1))), limit("window_update_flood")),
    Row("huge SETTINGS", Attack(again=settings(*[(99, 1)] * 2700)), limit("settings_size")),
    Row("rapid reset", Attack(b"".join(request(i) + reset(i) for i in ids()), stays=FOR_EVER), limit("rapid_reset")),
    *(
        Row(f"made to reset: {name}", Attack(b"".join(make(i) for i in ids()), stays=FOR_EVER), limit("provoked_resets"))
        for name, make in RESET_MAKERS.items()
    ),
    Row("CONTINUATION flood", Attack(frame(HEADERS, 0, 1, block()), flood(frame(CONTINUATION, 0, 1, b"\0"))),
        limit("continuation_flood")),
    Row("CONTINUATION of nothing", Attack(frame(HEADERS, 0, 1, block()), flood(frame(CONTINUATION, 0, 1))),
        limit("continuation_flood")),
    Row("HPACK bomb", Attack(b"".join(frame(HEADERS, 5, i, BOMB if i == 1 else block() + b"\xbe" * 4000) for i in ids(2000))),
        limit("header_list_size")),
    Row("cookie crumbs", Attack(b"".join(request(i, *[(b"cookie", b"a=b")] * 500) for i in ids(500))),
        limit("header_fields")),
    Row("huge header sections", Attack(b"".join(request(i, *[(b"x-%d" % n, b"v" * 140) for n in range(90)]) for i in ids(500)))),
    Row("a header block without end", Attack(
        frame(HEADERS, 0, 1, block()), frame(CONTINUATION, 0, 1, literal(b"x", b"v" * 16000))),
        limit("header_block_size")),
    Row("a growing HPACK table", Attack(b"".join(frame(HEADERS, 5, i, integer(1 << 30, 5, 0x20) + block()) for i in ids(10))), BROKEN),
    Row("a promise of large tables", Attack(
        b"".join(request(i, (b"x-%d" % i, b"v" * 1000)) for i in ids(900)), settings=settings((1, 0xFFFFFFFF)))),
    Row("streams beyond the limit", Attack(b"".join(request(i, end=False) for i in ids(5000)), connections=2, stays=FOR_EVER),
        limit("concurrent_streams")),
    Row("streams far beyond the limit", Attack(b"".join(request(i, end=False) for i in ids()), connections=2, stays=FOR_EVER),
        limit("refused_streams")),
    Row("streams after the agent's GOAWAY", Attack(OPEN + DRAINED + b"".join(request(i) for i in ids()[1:]), stays=FOR_EVER),
        limit("refused_streams")),
    Row("streams after their own GOAWAY", Attack(
        frame(GOAWAY, 0, 0, bytes(8)) + b"".join(request(i) + reset(i) for i in ids()), stays=FOR_EVER), limit("rapid_reset")),
    Row("stream-id reuse", Attack(request(1) + request(1)), flagged("DPE")),
    Row("stream ids that go back", Attack(request(5) + request(3)), BROKEN),
    Row("truncated frames", Attack(OPEN + frame(DATA, 0, 1, bytes(1000))[:500], connections=50)),
    Row("a window of nothing", Attack(b"".join(request(i) for i in ids(900)), settings=settings((4, 0)), stays=FOR_EVER),
        pod_limit("memory")),
    Row("a window of one byte", Attack(
        b"".join(request(i) for i in ids(20)), b"".join(window_update(i, 1) for i in ids(20)) * 50, settings=settings((4, 0)),
        connections=2), limit("window_dribble")),
    Row("many windows of one byte", Attack(
        b"".join(request(i) for i in ids(900)), b"".join(window_update(i, 1) for i in ids(900)), settings=settings((4, 0))),
        limit("window_update_flood")),
    Row("a dribble of DATA", Attack(
        b"".join(request(i, end=False) for i in ids(100)), b"".join(frame(DATA, 0, i, b"x") for i in ids(100)), pace=0.001)),
    Row("half a preface", Attack(preface=PREFACE[:9], connections=400, stays=FOR_EVER)),
    Row("half a header block", Attack(frame(HEADERS, 0, 1, block()[:9]), connections=400, stays=FOR_EVER)),
    Row("a connection window update of 0", Attack(window_update(0, 0)), BROKEN),
    Row("a connection window that overflows", Attack(window_update(0, 0x7FFFFFFF)), BROKEN),
    Row("changes of the initial window", Attack(
        b"".join(request(i) for i in ids(900)), flood(settings((4, 0)) + settings((4, 1)))), limit("settings_flood")),
    Row("padding", Attack(OPEN, flood(frame(DATA, PADDED, 1, b"\xff" + bytes(255)))), limit("empty_data_flood")),
    *(
        Row(f"smuggling: {name}", Attack(b"".join(make(i) for i in ids()), stays=FOR_EVER), limit("provoked_resets"))
        for name, make in SMUGGLED.items()
    ),
    Row("requests, answers not read", Attack(
        b"".join(request(i) for i in ids(900)), settings=GRANT_ALL, reads=False, stays=FOR_EVER),
        pod_limit("memory")),
    Row("connections without end", Attack(connections=700, stays=FOR_EVER), pod_limit("connections")),
    Row("streams without end", Attack(b"".join(request(i, end=False) for i in ids(990)), connections=4, stays=FOR_EVER),
        pod_limit("streams")),
]  # fmt: skip

HEAD = literal(b":status", b"200") + literal(b"content-type", b"application/grpc")
ANSWER = frame(HEADERS, END_HEADERS, 1, HEAD)
ASKING = Attack(b"".join(request(i) for i in ids(40)), connections=2, stays=0.05)
MANY = Attack(b"".join(request(i) for i in ids(900)), connections=2, stays=0.3)
UPLOADS = Attack(b"".join(request(i, end=False) + frame(DATA, 0, i, bytes(16000)) for i in ids(40)), connections=2, stays=0.5)
BACKEND_ROWS = [
    Row("PING flood", HostileBackend(again=flood(frame(PING, 0, 0, bytes(8)))), up_limit("ping_flood")),
    Row("SETTINGS flood", HostileBackend(again=flood(settings())), up_limit("settings_flood")),
    Row("empty DATA flood", HostileBackend(ANSWER, flood(frame(DATA, 0, 1))), up_limit("empty_data_flood")),
    Row("PRIORITY flood", HostileBackend(again=flood(frame(PRIORITY, 0, 9, bytes(5)))), up_limit("priority_flood")),
    Row("unknown frames", HostileBackend(again=flood(frame(99, 0, 0))), up_limit("ignored_frame_flood")),
    Row("huge SETTINGS", HostileBackend(again=settings(*[(99, 1)] * 2700)), up_limit("settings_size")),
    Row("WINDOW_UPDATE flood", HostileBackend(again=flood(window_update(0, 1))), up_limit("window_update_flood")),
    Row("a window of one byte", HostileBackend(again=flood(window_update(1, 1)), opening=settings((4, 0))),
        up_limit("window_dribble"), UPLOADS),
    Row("no window at all", HostileBackend(opening=settings((4, 0))), None, UPLOADS),
    Row("requests, not read", HostileBackend(opening=GRANT_ALL, reads=False),
        ("weir_stalled_connections_total", {"role": "upstream"}), UPLOADS),
    Row("made to reset: data beyond its length", HostileBackend(
        frame(HEADERS, END_HEADERS, 1, HEAD + literal(b"content-length", b"1")) + frame(DATA, 0, 1, b"xx")),
        up_limit("provoked_resets"), MANY),
    Row("a header block without end", HostileBackend(
        frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, 0, 1, literal(b"x", b"v" * 16000)) * 5), up_limit("header_block_size")),
    Row("resets", HostileBackend(reset(1, 2)), flagged("UR")),
    Row("data beyond its length", HostileBackend(
        frame(HEADERS, END_HEADERS, 1, HEAD + literal(b"content-length", b"1")) + frame(DATA, 0, 1, b"xx")), flagged("UPE")),
    # Within one answer: that to the next request would break the block off.
    Row("CONTINUATION flood", HostileBackend(frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, 0, 1, b"\0") * 20),
        up_limit("continuation_flood")),
    Row("CONTINUATION of nothing", HostileBackend(frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, 0, 1) * 20),
        up_limit("continuation_flood")),
    Row("HPACK bomb", HostileBackend(frame(HEADERS, END_HEADERS, 1, literal(b"x", b"y" * 3900, indexed=True) + HEAD + b"\xbe" * 4000)),
        up_limit("header_list_size")),
    Row("cookie crumbs", HostileBackend(frame(HEADERS, END_HEADERS, 1, HEAD + literal(b"set-cookie", b"a=b") * 500)),
        up_limit("header_fields")),
    Row("1xx without end", HostileBackend(again=flood(frame(HEADERS, END_HEADERS, 1, literal(b":status", b"103")))),
        up_limit("informational_responses")),
    Row("window update of 0", HostileBackend(window_update(0, 0)), UPSTREAM_BROKEN),
    Row("window that overflows", HostileBackend(window_update(0, 0x7FFFFFFF)), UPSTREAM_BROKEN),
    Row("changes of the initial window", HostileBackend(again=flood(settings((4, 0)) + settings((4, 1)))), up_limit("settings_flood")),
    # Whether it ever is beyond depends on how fast the client reads.
    Row("data beyond the window", HostileBackend(ANSWER, flood(frame(DATA, 0, 1, bytes(16000)), 1 << 20))),
    Row("data before the head", HostileBackend(frame(DATA, 0, 1, b"x")), flagged("UPE")),
    Row("a dribble of DATA", HostileBackend(ANSWER, flood(frame(DATA, 0, 1, b"x")))),
    Row("padding", HostileBackend(ANSWER, flood(frame(DATA, PADDED, 1, b"\xff" + bytes(255)))), up_limit("empty_data_flood")),
    Row("PUSH_PROMISE", HostileBackend(frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + HEAD)), UPSTREAM_BROKEN),
    Row("GOAWAY flood", HostileBackend(again=flood(frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4)))), up_limit("goaway_flood")),
    Row("smuggling", HostileBackend(frame(HEADERS, END_HEADERS | END_STREAM, 1, HEAD + literal(b"x", b"a\r\nb"))), flagged("UPE")),
]  # fmt: skip


# With the ACK that the agent waits for as long.
SOUND = settings() + frame(SETTINGS, ACK)
UNFINISHED = [
    Row("half a preface", Attack(preface=PREFACE[:9], connections=50, stays=FOR_EVER), ("weir_tcp_relays_total", {})),
    Row("no SETTINGS", Attack(settings=b"", connections=50, stays=FOR_EVER), limit("settings_timeout")),
    Row("half a frame", Attack(frame(PING, 0, 0, bytes(8))[:12], settings=SOUND, connections=50, stays=FOR_EVER),
        limit("frame_timeout")),
    Row("half a header block", Attack(frame(HEADERS, 0, 1, block()[:9]), settings=SOUND, connections=50, stays=FOR_EVER),
        limit("header_block_timeout")),
]  # fmt: skip
