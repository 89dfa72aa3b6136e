"""What this process is: its role, how many share the role on its machine, and how many connections follow from it."""

# Connections that a process of a role keeps, and that it may open beyond them for a moment. A worker uses one for each
# of its threads: claim and render, upload, heartbeat, presence.
_POOLS = {"worker": (4, 2), "api": (20, 20)}
# What several API processes on one machine share; each has at least so many and so many more.
_SHARED_MIN = 6
_role = ["cli"]
_processes = [1]


def connections_max(role: str, *, processes: int = 1) -> int:
    """Return how many connections one process of a role opens at most, where so many share the role on its machine."""
    return sum(_pool_size(role, processes))


def pool_size() -> tuple[int, int]:
    """Return how many connections this process keeps, and how many it may open beyond them for a moment."""
    return _pool_size(_role[0], _processes[0])


def _pool_size(role: str, processes: int) -> tuple[int, int]:
    keeps, more = _POOLS.get(role, _POOLS["api"])
    if processes == 1:
        return keeps, more
    return max(_SHARED_MIN, keeps // processes), max(_SHARED_MIN, more // processes)


def name_process(role: str, *, processes: int = 1) -> None:
    """Set the role that `pg_stat_activity` shows for this process's later connections, such as `api` or `worker`.

    `processes`: how many share the role on this machine, and with it the connections and the places at the gate.
    """
    _role[0], _processes[0] = role, processes


def sharing_processes() -> int:
    """Return how many processes share this one's role on its machine, itself included."""
    return _processes[0]


def process_role() -> str:
    """Return the role of this process, such as `api` or `worker`; `cli` until it is named."""
    return _role[0]


def application_name() -> str:
    """Return the name of this process's connections: `cinemeter-` and its role."""
    return f"cinemeter-{_role[0]}"
