"""Free ports on the loopback address."""

import socket


def free_port(wanted: int = 0, host: str = "127.0.0.1") -> int:
    """Return the port `wanted` if nothing listens there, else a free port from the kernel.

    Another process may bind it first, so whoever starts a server on it must be ready to try again.
    """
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # Servers bind with this option too, so connections in TIME_WAIT do not count as in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no free port on {host}")
