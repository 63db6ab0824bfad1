#!/usr/bin/python3
"""Runs a program as a container runtime would: with these capabilities and this seccomp profile only.

    confine.py PROFILE.json CAPABILITY,... PROGRAM ARGUMENTS...

The profile is in the form of the OCI runtime specification. As in runc, names that libseccomp does not know are skipped.
"""

import ctypes
import errno
import json
import os
import sys

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
UNKNOWN = -1
NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def load_profile(path: str) -> None:
    with open(path) as file:
        profile = json.load(file)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO" and NATIVE[os.uname().machine] in profile["architectures"]
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ERRNO | profile.get("defaultErrnoRet", errno.EPERM)))
    for rule in profile["syscalls"]:
        assert rule.keys() == {"names", "action"} and rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]:
            number = seccomp.seccomp_syscall_resolve_name(name.encode())
            if number != UNKNOWN and (failed := seccomp.seccomp_rule_add(context, ALLOW, number, 0)):
                raise OSError(-failed, f"seccomp_rule_add {name}")
    if failed := seccomp.seccomp_load(context):
        raise OSError(-failed, "seccomp_load")


def main() -> None:
    profile, capabilities, *program = sys.argv[1:]
    if capabilities != "dropped":
        # By exec(), which takes a root process's capabilities from the bounding set.
        wanted = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities.split(","))])
        again = [sys.executable, __file__, profile, "dropped", *program]
        os.execvp("setpriv", ["setpriv", "--no-new-privs", "--bounding-set", wanted, "--inh-caps", wanted, *again])
    load_profile(profile)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
