"""A network of the measurement's own.

Programs under test take the system's congestion control unless they choose one. Where that is BBR, the kernel holds their packets back by a
timer for each, on loopback as well, and what is measured is how the two ends' timers fall: SPDK's client wrote 128 KiB blocks at half of
its speed so, and to one target more slowly than to another for no reason of theirs. In a network namespace it can be chosen for
everybody without touching the system's.
"""

import ctypes
import fcntl
import os
import socket
import struct

from .process import warnings

CLONE_NEWNET = 0x40000000
# Of netdevice(7).
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
# In every kernel, and allowed to everybody.
CONGESTION_CONTROL = "reno"
SETTING = "/proc/sys/net/ipv4/tcp_congestion_control"


def enter():
    """Moves this process, and all that it starts from now on, into a namespace whose loopback paces nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        warnings.add(f"no network of its own ({os.strerror(ctypes.get_errno())}): programs use the system's congestion control, which may pace them")
        return
    bring_up(b"lo")
    with open(SETTING, "w", encoding="ascii") as file:
        file.write(CONGESTION_CONTROL)


def bring_up(name):
    """A new namespace's loopback is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", name, 0)
        flags = struct.unpack_from("h", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", name, flags | IFF_UP))
