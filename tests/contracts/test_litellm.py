"""LiteLLM, unmodified: its SDK, and its proxy in front of a service that names costs in US dollars."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.contracts.litellm_process import MASTER_KEY, Proxy, missing_litellm, run_sdk, running_proxy
from tests.contracts.node_service import Payer, new_payer
from tests.live_service import Service, start, stop

MISSING = missing_litellm()
pytestmark = [
    pytest.mark.deep,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(MISSING is not None, reason=MISSING or ""),
]
PROVIDERS = ("openai", "hosted_vllm")
RATE = 0.125
SMALL: dict[str, Any] = {"seconds": "1", "size": "832x480"}
# One of two deployments is chosen at random for each order: all of 30 go to the same one once in 500 million runs. An
# account may order twice as many in a minute.
ORDERS_MAX = 30


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of this file's own: the other tests' one has no rate of US dollars."""
    service = start(tmp_path_factory.mktemp("litellm") / "home", CINEMETER_USD_RATE=str(RATE))
    yield service
    assert stop(service) == 0


@pytest.fixture(scope="module")
def payers(service: Service) -> dict[str, Payer]:
    return {"careful": new_payer(service, "Careful", amount="100.00"), "poor": new_payer(service, "Poor")}


@pytest.fixture(scope="module")
def seen(service: Service, payers: dict[str, Payer]) -> dict[str, Any]:
    return run_sdk(service, {**service.keys, **{name: payer.key for name, payer in payers.items()}})


@pytest.fixture(scope="module")
def proxy(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running_proxy(service, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{proxy.base_url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_sdk_makes_polls_and_downloads_a_film(seen: dict[str, Any], provider: str) -> None:
    facts = seen[provider]
    assert (facts["status"], facts["film"]) == ("completed", "ftyp")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_fields_of_its_callers_are_understood(service: Service, seen: dict[str, Any], provider: str) -> None:
    other = seen[provider]["other"]
    assert (other["size"], other["seconds"]) == ("480x832", "1")
    with service.client("pro") as native:
        videos = native.get("/v1/videos").raise_for_status().json()["data"]
    [video, *_] = [each for each in videos if each["metadata"].get("user") == "user-2"]
    assert (video["seed"], video["resolved"]["sound"], video["warnings"]) == (7, False, [])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_sdk_raises_its_own_errors_with_our_sentence(
    seen: dict[str, Any], payers: dict[str, Payer], provider: str
) -> None:
    refused = seen[provider]["refused"]
    sentences = {
        "model": "no-such-model",
        "picture": "This URL cannot be",
        "prompt": "at most 5000 characters",
        "money": "wallet",
        "stranger": "key",
    }
    for case, sentence in sentences.items():
        assert sentence in refused[case]["message"], (case, refused[case])
        assert refused[case]["module"] == "litellm.exceptions", (case, refused[case])
    assert all(payer.holds_nothing() for payer in payers.values())


def test_the_proxy_orders_from_both_deployments_and_finds_their_films_again(
    service: Service, client: openai.OpenAI
) -> None:
    accounts = ("pro", "creator")
    films: dict[str, str] = {}
    before = {account: _video_ids(service, account) for account in accounts}
    for _ in range(ORDERS_MAX):
        video = client.videos.create(model="film", prompt="bars", extra_body={"user": "user-3", "duration": 1}, **SMALL)
        made = {account: _video_ids(service, account) - before[account] for account in accounts}
        films.update({account: video.id for account in accounts if made[account] and account not in films})
        if len(films) == len(accounts):
            break
    assert set(films) == set(accounts)
    for film in films.values():
        video = client.videos.poll(film, poll_interval_ms=200)
        assert video.status == "completed", video
        assert client.videos.download_content(film).read()[4:8] == b"ftyp"


def _video_ids(service: Service, account: str) -> set[str]:
    with service.client(account) as native:
        return {each["id"] for each in native.get("/v1/videos").raise_for_status().json()["data"]}


def test_the_proxy_passes_our_sentence_on(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.videos.create(model="film", prompt="a" * 5001, **SMALL)
    assert "at most 5000 characters" in str(refused.value)
    assert 400 <= refused.value.status_code < 500


def test_the_pass_through_bills_what_we_say_and_passes_the_committed_spend(service: Service, proxy: Proxy) -> None:
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    with httpx.Client(base_url=f"{proxy.base_url}/cinemeter", headers=headers, timeout=60) as client:
        created = client.post("/videos", json={"model": "synthetic", "prompt": "bars", **SMALL}).raise_for_status()
        video = created.json()
        assert float(created.headers["x-committed-spend-remaining"]) > 0
        polled = client.get(f"/videos/{video['id']}").raise_for_status().json()
        assert polled["price"]["usd_rate"] == str(RATE)
        with service.client("enterprise") as native:
            assert native.post(f"/v1/videos/{video['id']}/cancel").status_code == 200
    assert httpx.get(f"{proxy.base_url}/cinemeter/videos", timeout=60).status_code == 401
    created_cost, polled_cost = proxy.costs("pass_through", 2)
    assert created_cost == pytest.approx(float(video["price"]["total"]) * RATE)
    assert not polled_cost
