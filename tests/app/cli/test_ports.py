"""Ports that are chosen before a server listens on them."""

import errno
import socket
import struct

import pytest

from app.cli.ports import free_port, reserved_port

# From linux/in.h; Python 3.11 does not name it. Its value is 32 bits: the low half the first port, the high the last.
IP_LOCAL_PORT_RANGE = 51


def bind_any(port: int) -> socket.socket:
    """Ask the kernel for any port, out of a range of this one alone."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("=I", port | port << 16))
    except OSError:
        listener.close()
        pytest.skip("this kernel has no port range per socket (Linux 6.3)")
    try:
        listener.bind(("127.0.0.1", 0))
    except OSError:
        listener.close()
        raise
    return listener


def test_the_kernel_gives_a_reserved_port_to_nobody_else():
    with reserved_port() as port:
        with pytest.raises(OSError) as refused:
            bind_any(port)
        assert refused.value.errno == errno.EADDRINUSE
        with socket.create_server(("127.0.0.1", port)) as server:
            assert server.getsockname()[1] == port
    bind_any(port).close()


def test_a_port_where_something_listens_is_not_chosen():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert free_port(port) != port
        with reserved_port(port) as other:
            assert other != port
    assert free_port(port) == port
