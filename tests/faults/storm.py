"""A storm: seeded faults against a whole running service, and what must be true when it has passed."""

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psutil
from redis import Redis
from redis.exceptions import RedisError

from app.cli.subprocesses import ServerProcess
from app.wakeups import KEY_PREFIX, WAKEUP_TASK, make_celery, queue_name
from tests.faults.environment import LEASE_SECONDS, Ground
from tests.faults.freezes import Freezes

# After a fault the storm waits for so long until a take that began after it has succeeded. A worker that was killed
# loads its libraries again, with the processor shared: how fast work goes on is printed, that it does is asserted.
LULL_SECONDS = 300.0
COME_BACK_SECONDS = 180.0


@dataclass
class Storm(Freezes):
    """Faults against one service, dealt from a seeded deck: each comes once before any comes again.

    A fault that lasts some seconds comes together with the next one of the deck, where they hit different parts.
    `tally` counts faults, and `recovery` has for each how long it was until a take that began after it had succeeded.
    `idle_strangers` counts workers with a strange clock that were given no work within a minute.
    """

    ground: Ground
    seed: int
    tally: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=dict)
    top_ups: list[str] = field(default_factory=list)
    idle_strangers: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        # What each fault hits, and whether it lasts for seconds.
        self.faults: dict[Callable[[], None], tuple[str, bool]] = {
            self.kill_worker_child: ("worker", False),
            self.kill_worker_parent: ("worker", False),
            self.kill_finisher: ("finisher", False),
            self.freeze_worker_past_its_lease: ("worker", True),
            self.stop_worker_for_good: ("worker", True),
            self.kill_api: ("api", False),
            self.kill_scheduler: ("scheduler", False),
            self.kill_courier: ("courier", False),
            self.freeze_api: ("api", True),
            self.freeze_scheduler: ("scheduler", True),
            self.freeze_courier: ("courier", True),
            self.freeze_console: ("console", True),
            self.restart_redis: ("redis", False),
            self.flush_redis: ("redis", False),
            self.freeze_redis: ("redis", True),
            self.half_open_redis: ("redis", False),
            self.lose_a_ring_in_a_dead_worker: ("worker", False),
            self.rings_double_and_out_of_order: ("redis", False),
            self.restart_postgres: ("postgres", False),
            self.drop_backends: ("postgres", False),
            self.half_open_postgres: ("postgres", False),
            self.storage_refuses: ("storage", True),
            self.storage_is_slow: ("storage", True),
            self.a_clock_an_hour_ahead: ("clock", True),
            self.a_clock_an_hour_behind: ("clock", True),
        }

    def blow(self, feed: Callable[[], None], *, count: int) -> None:
        """Let `count` faults come, one or two at a time, with a lull after them. `feed` is called often: it orders."""
        deck: list[Callable[[], None]] = []
        while self.tally.total() < count:
            if not deck:
                deck = self.random.sample(list(self.faults), len(self.faults))
            faults = [deck.pop()]
            if self.tally.total() + 1 < count:
                faults += self._companion(faults[0], deck)
            began = time.monotonic()
            with ThreadPoolExecutor(len(faults)) as pool:
                for blown in [pool.submit(fault) for fault in faults]:
                    while not blown.done():
                        feed()
                        time.sleep(0.1)
                    blown.result()
            names = [fault.__name__ for fault in faults]
            self.tally.update(names)
            self._lull(names, began, feed)

    def _companion(self, fault: Callable[[], None], deck: list[Callable[[], None]]) -> list[Callable[[], None]]:
        """Take from the deck the next fault that comes together with a lasting one; none where that makes no sense."""
        subject, lasts = self.faults[fault]
        for other in reversed(deck) if lasts else ():
            # Nothing is learnt while the database is away, and a stranger among the workers must meet work.
            if self.faults[other][0] not in (subject, "postgres", "clock"):
                deck.remove(other)
                return [other]
        return []

    def _lull(self, names: list[str], began: float, feed: Callable[[], None]) -> None:
        """Wait until a take that began after the faults has succeeded, and record how long that took."""
        mark: int | None = None
        until = time.monotonic() + LULL_SECONDS
        while time.monotonic() < until:
            self.ground.tend()
            feed()
            if mark is None:
                mark = self.ground.ask("SELECT coalesce(max(fence), 0) FROM takes", fallback=None)[0][0]
            else:
                after = "SELECT count(*) FROM takes WHERE state = 'succeeded' AND fence > %s"
                if self.ground.ask(after, mark, fallback=0)[0][0]:
                    for name in names:
                        self.recovery.setdefault(name, []).append(time.monotonic() - began)
                    return
            time.sleep(0.1)

    def kill_worker_child(self) -> None:
        """kill -9 the process that renders, wherever it is."""
        self._kill("worker-child")

    def kill_worker_parent(self) -> None:
        """kill -9 Celery's parent; its child must not outlive it."""
        self._kill("worker")

    def kill_finisher(self) -> None:
        """kill -9 the process that joins films, in the middle of a finish if there is one."""
        until = time.monotonic() + 3
        running = "SELECT count(*) FROM takes WHERE state = 'running' AND kind = 'finish'"
        while time.monotonic() < until and not self.ground.ask(running, fallback=0)[0][0]:
            time.sleep(0.02)
        self._kill("finisher")

    def kill_api(self) -> None:
        """kill -9 the API, perhaps right after a 200."""
        self._kill("api")

    def kill_scheduler(self) -> None:
        """kill -9 one of the two schedulers, perhaps the one that leads."""
        self._kill("scheduler", count=1)

    def kill_courier(self) -> None:
        """kill -9 the courier with deliveries in flight."""
        self._kill("courier")

    def freeze_worker_past_its_lease(self) -> None:
        """Freeze the rendering process past its lease; when it wakes it may try to finish, and must not succeed."""
        self._freeze(self.ground.processes("worker-child"), LEASE_SECONDS + 1.5)

    def stop_worker_for_good(self) -> None:
        """Stop the rendering process and never let it go on; its parent must replace it."""
        stopped = self.ground.processes("worker-child")
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        until = time.monotonic() + COME_BACK_SECONDS
        while any(process.is_running() for process in stopped) or not self.ground.processes("worker-child"):
            assert time.monotonic() < until, "the stopped process was not replaced within three minutes"
            self.ground.tend()
            time.sleep(0.05)

    def freeze_redis(self) -> None:
        """SIGSTOP Redis: connections stand, nothing answers."""
        process = self.ground.servers.redis.process
        if process is not None:
            self._freeze([psutil.Process(process.pid)], 3.0)

    def restart_redis(self) -> None:
        """kill -9 Redis; it comes back empty."""
        self._end(self.ground.servers.redis)

    def flush_redis(self) -> None:
        """Lose every ring, and every rate limit, at once."""
        self._redis(lambda redis: redis.flushall())

    def half_open_redis(self) -> None:
        """Every connection to Redis stays open at both ends and passes nothing any more."""
        self.ground.wires["redis"].vanish()

    def half_open_postgres(self) -> None:
        """Every connection to PostgreSQL stays open at both ends and passes nothing any more."""
        self.ground.wires["postgres"].vanish()

    def lose_a_ring_in_a_dead_worker(self) -> None:
        """The lost-BRPOP window: a frozen worker is handed a ring, and dies before it has read it."""
        for process in self.ground.processes("worker"):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        self._ring("synthetic", "finish")
        time.sleep(0.2)
        self._kill("worker")

    def rings_double_and_out_of_order(self) -> None:
        """Ring for work that may not exist, many times, and shuffle and drop what waits."""
        self._ring(*self.random.choices(["synthetic", "finish"], k=6))

        def shuffle(redis: Redis) -> None:
            key = f"{KEY_PREFIX}{queue_name('synthetic')}"
            waiting = redis.lrange(key, 0, -1)
            redis.delete(key)
            self.random.shuffle(waiting)  # type: ignore[arg-type]
            for ring in waiting[1:]:  # type: ignore[index]
                redis.lpush(key, ring, ring)

        self._redis(shuffle)

    def restart_postgres(self) -> None:
        """kill -9 the postmaster; it comes back and replays its log."""
        self._end(self.ground.servers.postgres)

    def drop_backends(self) -> None:
        """Cut every connection to PostgreSQL, in the middle of whatever it was doing."""
        cut = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        until = time.monotonic() + COME_BACK_SECONDS
        while self.ground.ask(cut, fallback=None)[0][0] is None:
            assert time.monotonic() < until, "the database did not come back within three minutes"
            self.ground.tend()
            time.sleep(0.05)

    def storage_refuses(self) -> None:
        """Storage resets every connection for some seconds."""
        self.ground.wires["storage"].refuse()
        time.sleep(3.0)
        self.ground.wires["storage"].heal()

    def storage_is_slow(self) -> None:
        """Each chunk to and from storage takes half a second, for longer than a lease."""
        self.ground.wires["storage"].slow(0.5)
        time.sleep(LEASE_SECONDS + 1.0)
        self.ground.wires["storage"].heal()

    def a_clock_an_hour_ahead(self) -> None:
        """A worker whose clock is an hour ahead takes work, and is killed with it."""
        self._strange_clock(3600)

    def a_clock_an_hour_behind(self) -> None:
        """A worker whose clock is an hour behind takes work, and is killed with it."""
        self._strange_clock(-3600)

    def _strange_clock(self, offset: int) -> None:
        settings = {"CINEMETER_POOLS": "synthetic", "CINEMETER_CLOCK_OFFSET_SECONDS": str(offset)}
        # A worker's id ends in the process ids of the parent and of its child.
        pattern = f"%-{self.ground.helper('strange', 'worker', **settings).pid}-%"
        # It loads all libraries of a worker before it registers, which lasts on a busy machine.
        self._wait_for("SELECT count(*) FROM workers WHERE id LIKE %s", pattern, COME_BACK_SECONDS)
        if not self._wait_for("SELECT count(*) FROM takes WHERE worker_id LIKE %s", pattern, 60.0):
            # The other worker was quicker each time; the storm's summary says how often.
            self.idle_strangers += 1
        self.ground.end_helper("strange")

    def _wait_for(self, count: str, pattern: str, seconds: float) -> bool:
        """Wait until a query counts something. Returns whether it did within some seconds."""
        until = time.monotonic() + seconds
        while not self.ground.ask(count, pattern, fallback=0)[0][0]:
            if time.monotonic() > until:
                return False
            self.ground.tend()
            time.sleep(0.1)
        return True

    def _kill(self, role: str, *, count: int | None = None) -> None:
        found = self.ground.processes(role)
        for process in found if count is None else self.random.sample(found, min(count, len(found))):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        until = time.monotonic() + COME_BACK_SECONDS
        while not self.ground.processes(role):
            assert time.monotonic() < until, f"{role} did not come back within three minutes"
            self.ground.tend()
            time.sleep(0.05)

    def _end(self, server: ServerProcess) -> None:
        """kill -9 a server and wait until it runs again; another fault at the same time may start it first."""
        pid = getattr(server.process, "pid", None)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
        until = time.monotonic() + COME_BACK_SECONDS
        while getattr(server.process, "pid", None) == pid or not server.running():
            assert time.monotonic() < until, "the server did not come back within three minutes"
            self.ground.restart_servers()
            time.sleep(0.05)

    def _ring(self, *pools: str) -> None:
        bell = make_celery(["synthetic", "finish"])
        bell.conf.broker_url = self.ground.redis_url
        with contextlib.suppress(Exception), bell.connection_for_write() as connection:
            for pool in pools:
                bell.send_task(WAKEUP_TASK, kwargs={"pool": pool}, queue=queue_name(pool), connection=connection)

    def _redis(self, act: Callable[[Redis], object]) -> None:
        with contextlib.suppress(RedisError, OSError), Redis.from_url(self.ground.redis_url, socket_timeout=2) as redis:
            act(redis)
