"""The gate of requests: a bounded wait, then a refusal before anything is done, and no caller takes it all."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from app.errors import AppError
from app.request_client import RequestClient
from app.request_gate import ClientGone, GatePlace, RequestGate, WorkLimit
from app.request_limits import WorkKind


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


class Crowd:
    """Requests at a gate, each in a task that holds its place until the test lets it go."""

    def __init__(self, gate: RequestGate) -> None:
        self.gate = gate
        self.inside: list[str] = []
        self.places: dict[str, GatePlace] = {}
        self.ends: Counter[str] = Counter()
        self.tasks: list[asyncio.Task[None]] = []
        self._doors: dict[str, asyncio.Event] = {}

    def come(
        self,
        name: str,
        caller: str,
        is_gone: Callable[[], Awaitable[bool]] | None = None,
        *,
        work: WorkKind = WorkKind.LIGHT,
        is_known: bool = True,
        is_patient: bool = False,
    ) -> asyncio.Task[None]:
        self._doors[name] = asyncio.Event()
        client = RequestClient(caller, is_known)

        async def request() -> None:
            try:
                async with self.gate.place(lambda: client, work, is_gone=is_gone, is_patient=is_patient) as self.places[
                    name
                ]:
                    self.inside.append(name)
                    await self._doors[name].wait()
                    self.inside.remove(name)
                self.ends["answered"] += 1
            except AppError as error:
                self.ends[error.code] += 1
                assert error.facts["retry_after"] == 2
            except ClientGone:
                self.ends["gone"] += 1

        self.tasks.append(asyncio.create_task(request()))
        return self.tasks[-1]

    def leave(self, name: str) -> None:
        self._doors[name].set()

    async def end(self) -> None:
        while not all(task.done() for task in self.tasks):
            for door in self._doors.values():
                door.set()
            await asyncio.wait(self.tasks, timeout=0.01)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_one_caller_gets_at_most_half_of_the_places_and_of_the_queue() -> None:
    async def test() -> None:
        crowd = Crowd(RequestGate(places=4, waiting_max=6, wait_seconds=60))
        for number in range(20):
            crowd.come(f"flood {number}", "flood")
        await settle()
        assert len(crowd.inside) == 2
        assert crowd.ends == {"rate_limited": 20 - 2 - 3}
        crowd.come("single", "single")
        await settle()
        assert "single" in crowd.inside, "the other half is free"
        await crowd.end()

    run(test)


def test_the_caller_with_the_fewest_places_goes_next_oldest_request_first() -> None:
    async def test() -> None:
        crowd = Crowd(RequestGate(places=2, waiting_max=20, wait_seconds=60))
        for name in ("a1", "b1", "a2", "a3", "c1", "c2"):
            crowd.come(name, name[0])
        await settle()
        assert crowd.inside == ["a1", "b1"]
        crowd.leave("b1")
        await settle()
        assert crowd.inside == ["a1", "c1"], "a2 came first, but its caller has a place"
        crowd.leave("a1")
        await settle()
        assert crowd.inside == ["c1", "a2"]
        await crowd.end()
        assert crowd.ends == {"answered": 6}

    run(test)


def test_a_request_that_waited_too_long_is_refused_and_not_begun() -> None:
    async def test() -> None:
        crowd = Crowd(RequestGate(places=1, waiting_max=10, wait_seconds=0.01))
        crowd.come("first", "a")
        await settle()
        await crowd.come("second", "b")
        assert crowd.ends == {"unavailable": 1}
        crowd.leave("first")
        crowd.come("third", "b")
        await settle()
        assert crowd.inside == ["third"], "who gave up holds nothing"
        await crowd.end()

    run(test)


@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_a_cancelled_request_gives_its_place_to_others(moment: str) -> None:
    async def test() -> None:
        crowd = Crowd(RequestGate(places=1, waiting_max=10, wait_seconds=60))
        crowd.come("first", "a")
        await settle()
        second = crowd.come("second", "b")
        await settle()
        if moment == "granted":
            crowd.leave("first")
            await asyncio.sleep(0)
        second.cancel()
        await settle()
        crowd.leave("first")
        crowd.come("third", "c")
        await settle()
        assert crowd.inside == ["third"]
        crowd.tasks.remove(second)
        await crowd.end()

    run(test)


def test_a_request_whose_client_has_gone_is_not_begun() -> None:
    async def test() -> None:
        async def gone() -> bool:
            return True

        crowd = Crowd(RequestGate(places=1, waiting_max=10, wait_seconds=60))
        crowd.come("first", "a")
        crowd.come("left", "b", gone)
        crowd.come("stays", "c")
        await settle()
        crowd.leave("first")
        await settle()
        assert (crowd.inside, crowd.ends["gone"]) == (["stays"], 1)
        await crowd.end()

    run(test)


def test_a_kind_of_work_has_a_share_of_its_own() -> None:
    async def test() -> None:
        limits = {WorkKind.ORDER: WorkLimit(each=1, together=2)}
        crowd = Crowd(RequestGate(places=8, waiting_max=20, wait_seconds=0.01, work_limits=limits))
        tasks = [crowd.come(f"a{number}", "a", work=WorkKind.ORDER) for number in range(2)]
        crowd.come("a reads", "a")
        crowd.come("b", "b", work=WorkKind.ORDER)
        tasks.append(crowd.come("c", "c", work=WorkKind.ORDER))
        await settle()
        assert crowd.inside == ["a0", "a reads", "b"]
        await asyncio.wait(tasks[1:])
        assert crowd.ends == {"rate_limited": 1, "unavailable": 1}, "a has too many; c waits for others"
        await crowd.end()

    run(test)


def test_strangers_share_some_places_until_their_key_is_known() -> None:
    async def test() -> None:
        crowd = Crowd(RequestGate(places=16, waiting_max=200, wait_seconds=60))
        for address in "wxyz":
            for number in range(3):
                crowd.come(f"{address}{number}", address, is_known=False)
        await settle()
        assert crowd.inside == ["w0", "w1", "x0", "x1"], "an eighth each, a quarter together"
        crowd.come("account", "account")
        await settle()
        assert "account" in crowd.inside
        crowd.places["w0"].count_for(RequestClient("another account", is_known=True))
        await settle()
        assert crowd.inside[-1] == "y0", "no address has fewer places"
        await crowd.end()

    run(test)


def test_admitted_work_waits_without_a_limit() -> None:
    async def test() -> None:
        crowd = Crowd(RequestGate(places=1, waiting_max=1, wait_seconds=0.01))
        crowd.come("first", "a")
        for number in range(3):
            crowd.come(f"patient {number}", "a", is_patient=True)
        await settle()
        await crowd.come("impatient", "b")
        assert crowd.ends == {"unavailable": 1}
        crowd.leave("first")
        await settle()
        assert crowd.inside == ["patient 0"]
        await crowd.end()
        assert crowd.ends == {"unavailable": 1, "answered": 4}

    run(test)
