"""What an API server may do wrong, and whether the agent has got over it."""

import json
import socket
import time

MIB = 1 << 20
WATCH_SILENCE = 5  # seconds; the server's bookmarks come every second


def refusal(code, reason, message="", **headers):
    return lambda exchange: exchange.refuse(code, reason, message or reason, **headers)


def html(exchange):
    exchange.reply(200, b"<html><body>Please sign in to the guest network.</body></html>", "text/html")


def truncated(exchange):
    """The length is that of the whole, the bytes are half of it, and the connection ends."""
    body = json.dumps(exchange.page()).encode()
    exchange.send_response(200)
    exchange.send_header("Content-Length", str(len(body)))
    exchange.end_headers()
    exchange.wfile.write(body[: len(body) // 2])
    exchange.close_connection = True


def half_a_list(exchange):
    """Half of the bytes, as if that were all."""
    body = json.dumps(exchange.page()).encode()
    exchange.reply(200, body[: len(body) // 2])


def nothing(exchange):
    exchange.reply(200, b"")


def hang_up(exchange):
    exchange.connection.shutdown(socket.SHUT_RDWR)
    exchange.close_connection = True


def nonsense(exchange):
    exchange.connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    exchange.close_connection = True


def wrong_kind(exchange):
    exchange.reply(200, json.dumps({"kind": "PodList", "apiVersion": "v1", "items": {"not": "a list"}}).encode())


def cut_event(exchange):
    """A watch (whatever was asked for) that ends in the middle of an event."""
    exchange.begin_stream()
    exchange.chunk(b'{"type":"MODIFIED","object":{"kind":"EndpointSlice","metadata":{"na')
    hang_up(exchange)


def error_event(exchange):
    exchange.begin_stream()
    exchange.event("ERROR", {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd: no leader"})
    exchange.chunk(b"")


def unknown_events(exchange):
    exchange.begin_stream()
    exchange.chunk(b'{"type":"RENAMED","object":[]}\n{"type":7}\nnull\n[]\n"x"\n')
    exchange.chunk(b"")


def endless_event(exchange):
    """Of 32 MiB, without a newline."""
    exchange.begin_stream()
    exchange.chunk(b'{"type":"ADDED","object":{"metadata":{"name":"')
    for _ in range(32):
        exchange.chunk(b"x" * MIB)
    exchange.chunk(b"")


def deep(exchange):
    exchange.reply(200, b'{"items":' + b"[" * 100_000)


FAULTS = {
    "401": refusal(401, "Unauthorized"),
    "403": refusal(403, "Forbidden", "endpointslices is forbidden"),
    "404": refusal(404, "NotFound", "the server could not find the requested resource"),
    "410": refusal(410, "Expired", "too old resource version"),
    "429": refusal(429, "TooManyRequests", Retry_After=1),
    "500": refusal(500, "InternalError"),
    "503 without words": lambda exchange: exchange.reply(503, b""),
    **{f.__name__: f for f in (html, truncated, half_a_list, nothing, hang_up, nonsense, wrong_kind, cut_event)},
    **{f.__name__: f for f in (error_event, unknown_events, endless_event, deep)},
}


def follows(agent, client, service, greeters, timeout=40):
    """Whether a change of endpoints counts, and then again the one that undoes it."""
    for ready, count in ((False, 2), (True, 3)):
        service.set_ready(greeters[0], ready)
        agent.wait_applied(timeout=timeout)
        client.wait_backends(service.target, count)


def make_it_list(api, agent, resource):
    """410 Gone once, so that the agent begins anew."""
    began = time.monotonic()
    with api.fault(refusal(410, "Expired", "too old resource version"), resource):
        agent.wait(lambda: api.asked(resource, began), 20, f"{resource} are asked for")
