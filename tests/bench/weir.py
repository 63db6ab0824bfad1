"""weir-agent, as shipped, with redirect, and as a relay of TCP."""

import os
import subprocess
import time

from lab.agent import binary

from .peers import Missing, Proxy


class Weir(Proxy):
    """Shipped defaults, with one worker."""

    name = "weir"
    FIRST_LOOK_SECONDS = 2.0
    own_memory = True
    arguments: tuple = ()

    def start(self):
        self.agent = self.bed.lab.agent(workers=1, arguments=self.arguments)
        self.agent.start()
        self.agent.wait_enrolled(*self.bed.clients, timeout=20)
        self.agent.wait_applied(timeout=60)
        self.pid = self.agent.pid
        for task in os.listdir(f"/proc/{self.pid}/task"):
            os.sched_setaffinity(int(task), {int(self.bed.PROXY_CPU)})
        # Each pod's sockets are looked at once, with a hundredth of a thread (connections past weir); a running agent has
        # that behind it.
        time.sleep(self.FIRST_LOOK_SECONDS)

    def stop(self):
        self.agent.stop()
        self.agent.uninstall()

    def target(self, number):
        return self.bed.service.target


class WeirRedirect(Weir):
    """The bytes between the application and the agent go from socket to socket."""

    name = "weir-redirect"
    own_memory = False
    arguments = ("--redirect", "on")

    @staticmethod
    def available():
        usage = subprocess.run([binary("weir-agent"), "node", "--help"], capture_output=True, text=True, timeout=30).stdout
        if "--redirect" not in usage:
            raise Missing("this weir-agent has no --redirect")


class WeirTcp(Weir):
    """The same calls as bytes: ahead of the preface stand four that make the connection none of HTTP/2."""

    name = "weir-tcp"
    own_memory = False
    load = ("--not-http2",)
