"""A storm: seeded faults against a whole running service, and what must be true when it has passed."""

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import psycopg
from redis import Redis
from redis.exceptions import RedisError

from app.wakeups import KEY_PREFIX, WAKEUP_TASK, make_celery, queue_name
from tests.faults.environment import LEASE_SECONDS, Ground
from tests.faults.freezes import Freezes

# Between two faults some work gets done: a service that is only ever hit shows nothing but its back-off.
LULL_JOBS = 4
LULL_SECONDS = 20.0
COME_BACK_SECONDS = 60.0


@dataclass
class Storm(Freezes):
    """Faults against one service, dealt from a seeded deck: each comes once before any comes again.

    `tally` counts them, and `recovery` tells for each how long it was until a take that began after it had succeeded.
    """

    ground: Ground
    seed: int
    tally: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.faults: list[Callable[[], None]] = [
            self.kill_worker_child,
            self.kill_worker_parent,
            self.kill_finisher,
            self.freeze_worker_past_its_lease,
            self.stop_worker_for_good,
            self.kill_api,
            self.kill_scheduler,
            self.kill_courier,
            self.freeze_api,
            self.freeze_scheduler,
            self.freeze_courier,
            self.freeze_console,
            self.restart_redis,
            self.flush_redis,
            self.freeze_redis,
            self.half_open_redis,
            self.lose_a_ring_in_a_dead_worker,
            self.rings_double_and_out_of_order,
            self.restart_postgres,
            self.drop_backends,
            self.half_open_postgres,
            self.storage_refuses,
            self.storage_is_slow,
            self.a_clock_an_hour_ahead,
            self.a_clock_an_hour_behind,
        ]

    def blow(self, ended: Callable[[], int], done: Callable[[], bool], *, count: int) -> None:
        """Let one fault follow another until `count` have come and `done`, with a lull after each."""
        deck: list[Callable[[], None]] = []
        while self.tally.total() < count or not done():
            if not deck:
                deck = self.random.sample(self.faults, len(self.faults))
            fault = deck.pop()
            began = time.monotonic()
            fault()
            self.tally[fault.__name__] += 1
            self._lull(fault.__name__, began, ended, done)

    def _lull(self, name: str, began: float, ended: Callable[[], int], done: Callable[[], bool]) -> None:
        mark = self.ground.ask("SELECT max(fence) FROM takes", fallback=None)[0][0]
        enough = ended() + self.random.randint(1, LULL_JOBS)
        until = time.monotonic() + LULL_SECONDS
        recovered = False
        while time.monotonic() < until and not (recovered and ended() >= enough):
            self.ground.tend()
            if mark is None:
                mark = self.ground.ask("SELECT max(fence) FROM takes", fallback=None)[0][0]
            elif not recovered:
                after = "SELECT count(*) FROM takes WHERE state = 'succeeded' AND fence > %s"
                recovered = bool(self.ground.ask(after, mark, fallback=0)[0][0])
                if recovered:
                    self.recovery.setdefault(name, []).append(time.monotonic() - began)
            if done():
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
            assert time.monotonic() < until, "the stopped process was not replaced within a minute"
            self.ground.tend()
            time.sleep(0.05)

    def freeze_redis(self) -> None:
        """SIGSTOP Redis: connections stand, nothing answers."""
        process = self.ground.servers.redis.process
        if process is not None:
            self._freeze([psutil.Process(process.pid)], 3.0)

    def restart_redis(self) -> None:
        """kill -9 Redis; it comes back empty."""
        self._end(self.ground.servers.redis.process)

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
        self._end(self.ground.servers.postgres.process)

    def drop_backends(self) -> None:
        """Cut every connection to PostgreSQL, in the middle of whatever it was doing."""
        try:
            with psycopg.connect(self.ground.database_url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
        except psycopg.OperationalError:
            self.tally["drop_backends"] -= 1

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
        taken = "SELECT count(*) FROM takes WHERE worker_id IN (SELECT id FROM workers WHERE started_at > %s)"
        since = self.ground.ask("SELECT clock_timestamp()")[0][0]
        settings = {"CINEMETER_POOLS": "synthetic", "CINEMETER_CLOCK_OFFSET_SECONDS": str(offset)}
        self.ground.helper("strange", "worker", **settings)
        until = time.monotonic() + COME_BACK_SECONDS
        while since is not None and time.monotonic() < until and not self.ground.ask(taken, since, fallback=0)[0][0]:
            self.ground.tend()
            time.sleep(0.1)
            if not self.ground.ask("SELECT count(*) FROM units WHERE state = 'ready'", fallback=1)[0][0]:
                break
        self.ground.end_helper("strange")

    def _kill(self, role: str, *, count: int | None = None) -> None:
        found = self.ground.processes(role)
        for process in found if count is None else self.random.sample(found, min(count, len(found))):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        until = time.monotonic() + COME_BACK_SECONDS
        while not self.ground.processes(role):
            assert time.monotonic() < until, f"{role} did not come back within a minute"
            self.ground.tend()
            time.sleep(0.05)

    def _end(self, process: object) -> None:
        pid = getattr(process, "pid", None)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
        until = time.monotonic() + COME_BACK_SECONDS
        while not self.ground.servers.restart_stopped():
            assert time.monotonic() < until, "the server did not come back within a minute"
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
