"""A client of echo.py that says what it saw: echo_client.py HOST PORT CASE"""

import hashlib
import random
import socket
import struct
import sys
import threading
import time

BLOCK = random.Random(1).randbytes(1 << 20)
BLOCKS = 1024


def all_of(connection: socket.socket) -> bytes:
    """Until the end, or what ended it."""
    got = b""
    try:
        while data := connection.recv(1 << 16):
            got += data
    except OSError as error:
        return got + type(error).__name__.encode()
    return got


def half_close(connection) -> str:
    connection.sendall(b"the last that I say")
    connection.shutdown(socket.SHUT_WR)
    return all_of(connection).decode()


def nothing(connection) -> str:
    connection.shutdown(socket.SHUT_WR)
    return f"{len(all_of(connection))} bytes"


def reset(connection) -> str:
    """Bytes that arrived before the reset are not lost on the way back."""
    connection.sendall(BLOCK[:1000])
    got = b""
    while len(got) < 1000:
        got += connection.recv(1000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return f"{got == BLOCK[:1000]}"


def slow(connection) -> str:
    """Pauses on either side, and a reader that comes late."""
    for size in (1, 100_000, 3):
        time.sleep(0.2)
        connection.sendall(BLOCK[:size])
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.5)
    got = all_of(connection)
    return f"{len(got)} bytes, {got == BLOCK[:1] + BLOCK[:100_000] + BLOCK[:3]}"


def byte_by_byte(connection) -> str:
    text = b"PRI * HTTP/2.0\r\n\r\nnot that"
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in text:
        connection.sendall(bytes([byte]))
        time.sleep(0.002)
    connection.shutdown(socket.SHUT_WR)
    return f"{all_of(connection) == text}"


def bulk(connection) -> str:
    """1 GiB each way at once; the sum of what came back is that of what went."""
    sent, got, size = hashlib.sha256(), hashlib.sha256(), 0

    def send() -> None:
        for number in range(BLOCKS):
            block = number.to_bytes(8, "big") + BLOCK[8:]
            sent.update(block)
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    started = time.monotonic()
    sender.start()
    buffer = memoryview(bytearray(1 << 20))
    while count := connection.recv_into(buffer):
        got.update(buffer[:count])
        size += count
    sender.join()
    return f"{size} bytes, {'the same' if got.digest() == sent.digest() else 'another'} sum in {time.monotonic() - started:.1f} s"


CASES = {"half-close": half_close, "nothing": nothing, "reset": reset, "slow": slow, "byte by byte": byte_by_byte, "bulk": bulk}
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 60) as connection:
    peer = connection.getpeername()[:2] == (sys.argv[1], int(sys.argv[2]))
    print(CASES[sys.argv[3]](connection), "" if peer else "but the peer is another", flush=True)
