"""Opens TCP sockets for somebody outside the pod: one byte asks ('4', '6', or 'm' for MPTCP over IPv4), the descriptor comes back.

A socket belongs to the network namespace and cgroup of the process that made it, whoever uses it later, so
a test can hold both ends of a pod's connections in its own hands.
"""

import socket
import sys


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        while wanted := channel.recv(1):
            family = socket.AF_INET6 if wanted == b"6" else socket.AF_INET
            protocol = socket.IPPROTO_MPTCP if wanted == b"m" else socket.IPPROTO_TCP
            with socket.socket(family, socket.SOCK_STREAM, protocol) as made:
                socket.send_fds(channel, [b"s"], [made.fileno()])


if __name__ == "__main__":
    main()
