"""Redis is a courtesy: where it does not answer, orders are taken as fast as ever and nothing is asked twice."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from app import progress, wakeups
from app.settings import get_settings
from tests.api_client import World
from tests.contracts.storage_servers import BadNetwork

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


@pytest.fixture
def network(world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[BadNetwork]:
    """A Redis that takes connections and says nothing, until the script ends."""
    monkeypatch.setattr(wakeups, "_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(wakeups, "AWAY_SECONDS", 600.0)
    port = urlsplit(redis_url).port
    with BadNetwork(int(port or 0), ["stall down 0"] * 1000) as network:
        monkeypatch.setenv("CINEMETER_REDIS_URL", redis_url.replace(f":{port}", f":{network.own_port}"))
        _forget()
        yield network
        monkeypatch.undo()
        _forget()


def _forget() -> None:
    get_settings.cache_clear()
    wakeups.get_redis.cache_clear()
    wakeups._sender.cache_clear()
    wakeups._away_until.clear()


def test_a_redis_that_says_nothing_is_waited_for_once(world: World, network: BadNetwork) -> None:
    assert world.get("/v1/models").status_code == 200
    assert wakeups.is_redis_away()
    before = network.connections
    for _ in range(3):
        made = world.post("/v1/videos", ORDER)
        assert made.status_code == 200, made.text
    assert not progress.publish(made.json()["id"], {"type": "progress"})
    assert network.connections == before, "nothing more was asked of it"
    wakeups._away_until.clear()
    network.script.clear()
    assert progress.publish(made.json()["id"], {"type": "progress"}), "a while later it is asked again"
    assert wakeups.send_wakeup("synthetic")
