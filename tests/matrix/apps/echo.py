"""A TCP server that sends back what comes, and FIN for FIN: echo.py PORT"""

import socket
import sys
import threading


def serve(connection: socket.socket) -> None:
    buffer = memoryview(bytearray(1 << 18))
    with connection:
        try:
            while count := connection.recv_into(buffer):
                connection.sendall(buffer[:count])
        except ConnectionError:
            return


with socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024) as listener:
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
