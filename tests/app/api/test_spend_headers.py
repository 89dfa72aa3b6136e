"""Headers that name costs in US dollars: `x-litellm-response-cost` and `X-Committed-Spend-*`."""

from typing import Any

import pytest
from sqlalchemy import Engine

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.accounts.memberships import grant_membership
from app.accounts.projects import create_project
from app.clock import now
from app.db import transaction
from app.settings import get_settings
from app.wallet.balance import open_wallet
from app.wallet.funds import correct, top_up
from tests.api_client import SCOPES, World

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
COST = "x-litellm-response-cost"
SPEND = [f"x-committed-spend-{name}" for name in ("limit", "current", "remaining")]


@pytest.fixture
def dollars(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    set_rate(monkeypatch, "0.125")
    return world


def set_rate(monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
    monkeypatch.setenv("CINEMETER_USD_RATE", rate)
    get_settings.cache_clear()


def spend_of(answer: Any) -> list[int]:
    return [int(answer.headers[name]) for name in SPEND]


def test_without_a_rate_no_answer_names_dollars(world: World) -> None:
    ordered = world.post("/v1/videos", ORDER)
    assert "usd_rate" not in ordered.json()["price"]
    assert not {COST, *SPEND} & set(ordered.headers)


def test_an_order_names_its_cost_once_at_the_rate_of_its_time(dollars: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = {"Idempotency-Key": "film-1"}
    ordered = dollars.post("/v1/videos", ORDER, headers=key)
    video = ordered.json()
    total = round(100 * float(video["price"]["total"]))
    assert total > 0
    assert video["price"]["usd_rate"] == "0.125"
    assert float(ordered.headers[COST]) == pytest.approx(total / 100 * 0.125, abs=1e-12)
    # The wallet has 1,000.00, which are 125 dollars; a commitment is rounded up to whole cents.
    current = -(-total * 125 // 1000)
    assert spend_of(ordered) == [12_500, current, 12_500 - current]
    for other in (dollars.get(f"/v1/videos/{video['id']}"), dollars.post("/v1/videos", ORDER, headers=key)):
        assert other.json()["id"] == video["id"]
        assert not {COST, *SPEND} & set(other.headers)
    set_rate(monkeypatch, "0.25")
    assert dollars.get(f"/v1/videos/{video['id']}").json()["price"]["usd_rate"] == "0.125"
    assert dollars.post("/v1/videos", ORDER).json()["price"]["usd_rate"] == "0.25"


def test_a_quote_is_redeemed_at_the_rate_of_the_order(dollars: World) -> None:
    quote = dollars.post("/v1/videos/quotes", ORDER).json()
    ordered = dollars.post("/v1/videos", {**ORDER, "quote_id": quote["id"]})
    assert ordered.json()["price"]["usd_rate"] == "0.125"
    assert COST in ordered.headers


def test_a_test_job_costs_nothing(dollars: World) -> None:
    ordered = dollars.post("/v1/videos", ORDER, key=dollars.test_key)
    assert float(ordered.headers[COST]) == 0
    assert not set(SPEND) & set(ordered.headers), "the wallet is a live one"


def test_only_a_key_for_billing_sees_the_wallet(dollars: World, engine: Engine) -> None:
    with transaction(engine) as session:
        project = create_project(session, dollars.alice_id, "Spring", budget_month=200)
        videos_key = issue_key(session, dollars.alice_id, scopes=["videos"])[1]
        project_key = issue_key(session, dollars.alice_id, scopes=["videos"], project_id=project.id)[1]
    ordered = dollars.post("/v1/videos", ORDER, key=videos_key)
    assert COST in ordered.headers
    assert not set(SPEND) & set(ordered.headers)
    assert spend_of(dollars.post("/v1/videos", ORDER, key=project_key))[0] == 25
    with transaction(engine) as session:
        correct(session, dollars.alice_id, -99_900, reference="empty", reason="test")
    refused = dollars.post("/v1/videos", {**ORDER, "seconds": 60}, key=videos_key)
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_funds")
    assert "held" not in refused.json()
    assert not set(SPEND) & set(refused.headers)


def test_the_budget_that_leaves_less_is_named_also_in_its_refusal(dollars: World, engine: Engine) -> None:
    with transaction(engine) as session:
        key = issue_key(session, dollars.alice_id, scopes=SCOPES, budget_total=100)[1]
    ordered = dollars.post("/v1/videos", ORDER, key=key)
    limit, current, remaining = spend_of(ordered)
    assert (limit, remaining) == (12, 12 - current)
    refused = dollars.post("/v1/videos", {**ORDER, "seconds": 60}, key=key)
    assert (refused.status_code, refused.json()["code"]) == (402, "budget_exceeded")
    assert spend_of(refused) == [limit, current, remaining]
    assert COST not in refused.headers


def test_a_refusal_of_the_wallet_says_what_is_committed(dollars: World, engine: Engine) -> None:
    with transaction(engine) as session:
        account = create_account(session, "Carol")
        open_wallet(session, account.id)
        top_up(session, account.id, 200, kind="purchased", reference="Carol")
        key = issue_key(session, account.id, scopes=SCOPES)[1]
    ordered = dollars.post("/v1/videos", ORDER, key=key)
    refused = dollars.post("/v1/videos", {**ORDER, "seconds": 60}, key=key)
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_funds")
    assert spend_of(refused) == spend_of(ordered)
    assert spend_of(refused)[0] == 25


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/replicate/v1/models/cinemeter/synthetic/predictions", {"input": {"prompt": "bars", "duration": 1}}),
        (
            "/api/v1/services/aigc/video-generation/video-synthesis",
            {"model": "synthetic", "input": {"prompt": "bars"}, "parameters": {"duration": 1}},
        ),
        ("/v4/ai/video-model/start", {"prompt": "bars", "duration": 1, "n": 1}),
    ],
)
def test_every_interface_names_the_cost(dollars: World, path: str, body: dict[str, Any]) -> None:
    headers = {"ai-model-id": "synthetic", "X-DashScope-Async": "enable"}
    ordered = dollars.post(path, body, headers=headers)
    assert ordered.status_code in (200, 201), ordered.text
    assert float(ordered.headers[COST]) > 0
    assert len(spend_of(ordered)) == 3


def test_only_the_call_that_ordered_a_film_names_its_charge(dollars: World) -> None:
    headers = {"Idempotency-Key": "film-1", "Prefer": "wait=0"}
    early = dollars.post("/v1/videos/sync", ORDER, headers=headers)
    assert early.status_code == 504
    assert COST not in early.headers
    dollars.work()
    for _ in range(2):
        film = dollars.post("/v1/videos/sync", ORDER, headers=headers)
        assert film.headers["content-type"] == "video/mp4"
        assert not {COST, *SPEND} & set(film.headers)


def test_an_order_of_several_films_names_the_cost_of_all(dollars: World, engine: Engine) -> None:
    """The first two films use the free minute of the month, and the third one some of it."""
    with transaction(engine) as session:
        account_id = create_account(session, "Carol").id
        open_wallet(session, account_id)
        top_up(session, account_id, 100_000, kind="purchased", reference="seed Carol")
        grant_membership(session, account_id, "studio", starts_at=now(session))
        key = issue_key(session, account_id, scopes=SCOPES)[1]
    ordered = dollars.post("/v1/videos", {**ORDER, "seconds": 25, "n": 3}, key=key)
    assert float(ordered.json()["price"]["total"]) == 0
    group = dollars.get(f"/v1/videos/groups/{ordered.json()['group']}", key=key).json()
    total = float(group["total"])
    assert total > 0
    assert float(ordered.headers[COST]) == pytest.approx(total * 0.125, abs=1e-12)
