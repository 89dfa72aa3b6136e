"""A storm: seeded faults against a whole running service, and what must be true when it has passed."""

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

from app.bell import DOORBELL, KEY_PREFIX, queue_name
from tests.live import Service

# Between two faults some work gets done: a service that is only ever hit shows nothing but its back-off.
LULL_JOBS = 4
LULL_SECONDS = 30.0


@dataclass
class Storm:
    """Faults against one service, drawn from a seed; `tally` counts them and `recovery` times them, in seconds."""

    service: Service
    seed: int
    lease_seconds: float
    tally: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def blow(self, ended: Callable[[], int], done: Callable[[], bool]) -> None:
        """Let one fault follow another until `done`, each after a lull in which a few more jobs have `ended`."""
        faults: list[tuple[Callable[[], None], int]] = [
            (self.kill_worker_child, 5),
            (self.kill_worker, 2),
            (self.freeze_worker_child, 2),
            (self.kill_api, 1),
            (self.kill_scheduler, 2),
            (self.kill_courier, 1),
            (self.flush_redis, 2),
            (self.kill_redis, 1),
            (self.drop_backends, 2),
            (self.ring_wildly, 3),
            (self.kill_postgres, 1),
        ]
        acts, weights = zip(*faults, strict=True)
        while not done():
            act = self.random.choices(acts, weights)[0]
            self.tally[act.__name__] += 1
            act()
            self._lull(ended, done)

    def _lull(self, ended: Callable[[], int], done: Callable[[], bool]) -> None:
        until, enough = time.monotonic() + LULL_SECONDS, ended() + self.random.randint(1, LULL_JOBS)
        while ended() < enough and time.monotonic() < until and not done():
            time.sleep(0.1)

    def kill_worker_child(self) -> None:
        """kill -9 the process that renders, wherever it is."""
        self._kill("worker-child")

    def kill_worker(self) -> None:
        """kill -9 Celery's parent; its child must not outlive it."""
        self._kill("worker")

    def kill_api(self) -> None:
        """kill -9 the API, perhaps right after a 200."""
        self._kill("api")

    def kill_scheduler(self) -> None:
        """kill -9 the leader."""
        self._kill("scheduler")

    def kill_courier(self) -> None:
        """kill -9 the courier with deliveries in flight."""
        self._kill("courier")

    def freeze_worker_child(self) -> None:
        """Freeze the rendering process past its lease; when it wakes it may try to finish, and must not succeed."""
        for process in self.service.processes("worker-child"):
            try:
                process.suspend()
                time.sleep(self.lease_seconds + 0.5)
                process.resume()
            except psutil.NoSuchProcess:
                continue

    def flush_redis(self) -> None:
        """Lose every ring, and every rate limit, at once."""
        self._redis(lambda redis: redis.flushall())

    def ring_wildly(self) -> None:
        """Ring five times for work that may not exist, and drop a waiting ring."""
        from app.bell import make_celery  # The broker of the service under test, not of this process.

        def rings(redis: Redis) -> None:
            bell = make_celery(["synthetic", "finish"])
            bell.conf.broker_url = self.service.servers()["redis_url"]
            with bell.connection_for_write() as connection:
                for _ in range(5):
                    pool = self.random.choice(["synthetic", "finish"])
                    bell.send_task(DOORBELL, kwargs={"pool": pool}, queue=queue_name(pool), connection=connection)
            redis.rpop(f"{KEY_PREFIX}{queue_name('synthetic')}")

        self._redis(rings)

    def kill_redis(self) -> None:
        """kill -9 Redis; it comes back empty."""
        self._end_server("redis-server")

    def kill_postgres(self) -> None:
        """kill -9 the postmaster; it comes back and replays its log."""
        self._end_server("postgres")

    def drop_backends(self) -> None:
        """Cut every connection to PostgreSQL, in the middle of whatever it was doing."""
        try:
            with psycopg.connect(self.service.servers()["database_url"], autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
        except psycopg.OperationalError:
            self.tally["drop_backends_met_nothing"] += 1

    def _kill(self, role: str) -> None:
        for process in self.service.processes(role):
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        began = time.monotonic()
        while not self.service.processes(role):
            if time.monotonic() - began > 60:
                raise AssertionError(f"{role} did not come back within a minute")
            time.sleep(0.05)
        self.recovery.setdefault(role, []).append(time.monotonic() - began)

    def _end_server(self, name: str) -> None:
        tree = psutil.Process(self.service.process.pid)
        for child in tree.children(recursive=True):
            try:
                if child.name() == name and child.ppid() == tree.pid:
                    child.kill()
            except psutil.NoSuchProcess:
                continue

    def _redis(self, act: Callable[[Redis], object]) -> None:
        try:
            with Redis.from_url(self.service.servers()["redis_url"], socket_timeout=2) as redis:
                act(redis)
        except (RedisError, OSError):
            self.tally["redis_was_away"] += 1
