"""Orders do not need Redis: while it does not answer, they are accepted as fast as ever and it is not called twice."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from app import progress, redis_client, wakeups
from app.settings import get_settings
from tests.api_client import World
from tests.contracts.storage_servers import BadNetwork

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


@pytest.fixture
def network(world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[BadNetwork]:
    """A Redis that accepts connections and never answers, until the script ends."""
    monkeypatch.setattr(redis_client, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(wakeups, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(redis_client, "DOWN_SECONDS", 600.0)
    port = urlsplit(redis_url).port
    with BadNetwork(int(port or 0), ["stall down 0"] * 1000) as network:
        monkeypatch.setenv("CINEMETER_REDIS_URL", redis_url.replace(f":{port}", f":{network.own_port}"))
        _forget()
        yield network
        monkeypatch.undo()
        _forget()


def _forget() -> None:
    get_settings.cache_clear()
    redis_client.get_redis.cache_clear()
    wakeups._sender.cache_clear()
    redis_client._down_until.clear()


def test_a_redis_that_does_not_answer_is_waited_for_once(world: World, network: BadNetwork) -> None:
    assert world.get("/v1/models").status_code == 200
    assert redis_client.is_redis_down()
    before = network.connections
    for _ in range(3):
        response = world.post("/v1/videos", ORDER)
        assert response.status_code == 200, response.text
    assert not progress.publish(response.json()["id"], {"type": "progress"})
    assert network.connections == before, "it was not called again"
    redis_client._down_until.clear()
    network.script.clear()
    assert progress.publish(response.json()["id"], {"type": "progress"}), "later it is called again"
    assert wakeups.send_wakeup("synthetic")
