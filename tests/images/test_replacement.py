"""The API is replaced behind the proxy as the runbook says, while customers ask it all the time."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.images.engine import until
from tests.images.installation import API_CONTAINERS, Installation, measure

pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]
PAUSE_SECONDS = 0.05
REPLACE_SECONDS = 120


class Customers:
    """Threads that read films and order test films; they count the answers, and note each that is none or refused."""

    def __init__(self, installation: Installation, video: str) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._installation, self._video = installation, video
        self._end = threading.Event()

    def keep_asking(self, what: str, keep_connection: bool) -> None:
        """Ask until the end: on one connection, or on a new one each time."""
        while not self._end.wait(PAUSE_SECONDS if what == "read" else 20 * PAUSE_SECONDS):
            with self._installation.client() as client:
                for _ in range(50 if keep_connection else 1):
                    if self._end.is_set():
                        break
                    self._ask(client, what)
                    time.sleep(PAUSE_SECONDS)

    def _ask(self, client: httpx.Client, what: str) -> None:
        try:
            if what == "read":
                answer = client.get(f"/v1/videos/{self._video}")
            else:
                body = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
                answer = client.post("/v1/videos", json=body)
        except httpx.HTTPError as error:
            self.failures.append(f"{what}: {error!r}")
            return
        if answer.is_success:
            self.answers[what] += 1
        else:
            self.failures.append(f"{what}: {answer.status_code} {answer.text}")

    def counts(self) -> str:
        """Say how much was answered."""
        return f"{self.answers['read']} reads, {self.answers['order']} orders"

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask during the block."""
        work = [("read", True), ("read", False), ("read", False), ("order", False)]
        threads = [threading.Thread(target=self.keep_asking, args=each) for each in work]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._end.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def customers(installation: Installation) -> Customers:
    video = installation.order()
    assert installation.end_of(video)["status"] == "completed"
    return Customers(installation, video)


def processes(installation: Installation) -> set[tuple[str, str]]:
    """Return the API's processes beside the first one of each container."""
    script = "for each in /proc/[0-9]*; do grep -q [a]pi-process $each/cmdline && basename $each; done; true"
    return {
        (container, number)
        for container in installation.containers("api")
        for number in installation.engine.docker("exec", container, "sh", "-c", script).split()
    }


def test_no_request_is_refused_while_processes_are_replaced(
    installation: Installation, customers: Customers, report: list[str]
) -> None:
    before = processes(installation)
    assert len(before) == 2 * API_CONTAINERS
    with customers.asking():
        began = time.monotonic()
        installation.block("reload-api")
        until(lambda: _are_replaced(before, processes(installation)), REPLACE_SECONDS, "new processes of the API")
        took = measure(began)
    assert customers.failures == []
    report.append(f"{len(before)} processes of the API replaced in {took}: {customers.counts()}, none refused")


def _are_replaced(before: set[tuple[str, str]], after: set[tuple[str, str]]) -> bool:
    return not before & after and len(after) == len(before)


def test_no_request_is_refused_while_containers_are_replaced(
    installation: Installation, customers: Customers, report: list[str]
) -> None:
    before = set(installation.containers("api"))
    with customers.asking():
        began = time.monotonic()
        installation.block("replace-api")
        took = measure(began)
    after = set(installation.containers("api"))
    assert not before & after
    assert len(before) == len(after) == API_CONTAINERS
    assert customers.failures == []
    assert customers.answers["read"] > 100
    report.append(f"{len(before)} containers of the API replaced in {took}: {customers.counts()}, none refused")
    installation.dc("up", "--no-build", "--detach")
    assert set(installation.containers("api")) == after
