"""Free ports on the loopback address."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


def free_port(wanted: int = 0, host: str = "127.0.0.1") -> int:
    """Return the port `wanted` if nothing listens there, else a free port from the kernel.

    Another process may bind it first, so whoever starts a server on it must be ready to try again. Raises OSError.
    """
    with reserved_port(wanted, host) as port:
        return port


@contextmanager
def reserved_port(wanted: int = 0, host: str = "127.0.0.1") -> Iterator[int]:
    """Yield a port as `free_port` returns it, which the kernel gives to nobody else during the block.

    A server that names the port (and binds as usual, with SO_REUSEADDR) can listen there all the same. Raises OSError.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as reservation:
        # Servers bind with this option too, so connections in TIME_WAIT do not count as in use. And with it on both
        # sides, a socket that does not listen keeps the port only from those who ask for any port.
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reservation.bind((host, wanted))
        except OSError:
            if not wanted:
                raise
            reservation.bind((host, 0))
        yield int(reservation.getsockname()[1])
