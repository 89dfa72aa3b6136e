"""Limits that bind: counted for the account at every way in, whatever the key, with a share for tests."""

import io
from typing import Any

import pytest
from PIL import Image

from app.accounts.accounts import create_account, set_limits
from app.accounts.keys import issue_key
from app.accounts.memberships import change_membership
from app.assets.quota import stored_bytes
from app.clock import now
from app.db import transaction
from app.jobs.rate_limits import OPERATOR_REQUESTS_PER_MINUTE, share_of_tests
from app.prices.find import book_at
from app.roles import Role, Scope
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up
from pricing.rules import STORAGE_GIB_PER_WEIGHT, Membership
from pricing.schema import Table
from tests.api_client import SCOPES, World
from tests.app.web.conftest import Site, site  # noqa: F401 — the site's fixture

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
TASKS = "/api/v1/services/aigc/video-generation/video-synthesis"
TASK = {"model": "synthetic", "input": {"prompt": "a"}, "parameters": {"duration": 1, "size": "832*480"}}


@pytest.fixture
def free(world: World) -> str:
    """The key of an account without a membership, which has the smallest limits."""
    with transaction() as session:
        account = create_account(session, "Carol")
        open_wallet(session, account.id)
        top_up(session, account.id, 100_000, kind="purchased", reference="seed Carol")
        set_limits(session, account.id, concurrency=None, queue_limit=1_000)
        return issue_key(session, account.id, scopes=SCOPES)[1]


def membership(name: str = "free") -> Membership:
    with transaction() as session:
        return book_at(session, now(session)).book.membership(name)


def remaining(answer: Any, policy: str) -> int:
    """Return how many uses are left by a response's RateLimit header."""
    return int(answer.headers["ratelimit"].split(f'"{policy}";r=')[1].split(";")[0])


def test_keys_that_replace_one_another_share_one_minute(world: World, free: str) -> None:
    left, key = [], free
    for _ in range(4):
        answer = world.get("/v1/models", key=key)
        left.append(remaining(answer, "requests"))
        key = world.post("/v1/keys/self/rotate", {"overlap_hours": 72}, key=key).json()["secret"]
    limit = membership().requests_per_minute
    assert left == [limit - 1 - 2 * turn for turn in range(4)], "each turn is two requests of the account"


def test_orders_count_together_at_every_interface(world: World, free: str) -> None:
    limit = membership().jobs_per_minute
    first = world.post("/v1/videos", ORDER, key=free)
    assert remaining(first, "jobs") == limit - 1
    task = world.post(TASKS, TASK, key=free, headers={"X-DashScope-Async": "enable"})
    assert remaining(task, "jobs") == limit - 2
    quote = world.post("/v1/videos/quotes", ORDER, key=free).json()
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "generate", "arguments": {"quote_id": quote["id"], "confirm_total": quote["total"]}},
    }
    tool = world.post("/mcp", call, key=free, headers={"Accept": "application/json, text/event-stream"})
    assert remaining(tool, "jobs") == limit - 3
    remix = world.post("/v1/videos", ORDER, key=free)
    assert remaining(remix, "jobs") == limit - 4


def test_test_jobs_have_a_share_of_their_own(world: World) -> None:
    limits = membership("professional")
    live, test = world.post("/v1/videos", ORDER), world.post("/v1/videos", ORDER, key=world.test_key)
    assert remaining(live, "jobs") == limits.jobs_per_minute - 1
    assert remaining(test, "jobs") == share_of_tests(limits.jobs_per_minute) - 1
    with transaction() as session:
        set_limits(session, world.alice_id, concurrency=None, queue_limit=2)
    refused = world.post("/v1/videos", ORDER, key=world.test_key)
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert world.post("/v1/videos", ORDER).status_code == 200, "test jobs fill no place of a live one"


def test_whoever_runs_the_service_is_not_limited_like_a_trial(world: World) -> None:
    with transaction() as session:
        account = create_account(session, "Operations")
        open_wallet(session, account.id)
        key = issue_key(session, account.id, scopes=[Scope.ADMIN], roles=[Role.OPERATOR])[1]
    answer = world.get("/v1/admin/accounts", key=key)
    assert remaining(answer, "requests") == OPERATOR_REQUESTS_PER_MINUTE - 1


def test_orders_of_pages_count_with_those_of_keys(site: Site) -> None:  # noqa: F811
    account_id = site.accounts["alice"]
    with transaction() as session:
        change_membership(session, account_id, "free", at=now(session))
        key = issue_key(session, account_id, scopes=SCOPES)[1]
    limit = membership().jobs_per_minute
    headers = {"Authorization": f"Bearer {key}"}
    alice = site.browser("alice")
    for number in range(limit):
        if number % 2:
            assert site.app.post("/v1/videos", json=ORDER, headers=headers).status_code == 200
            continue
        alice.get("/studio")
        order = {"shot_prompt": f"film {number}", "shot_seconds": "1", "model": "synthetic", "resolution": "480P"}
        assert alice.send("/studio/orders", {**order, "ratio": "16:9"}).url.path == "/studio", alice.text()
    alice.get("/studio")
    assert alice.send("/studio/orders", {**order, "ratio": "16:9", "shot_prompt": "one more"}).status_code == 429
    assert f"limited to {limit} jobs per minute" in alice.text()


def test_a_membership_names_its_storage_or_has_what_its_share_gives() -> None:
    values = {
        "id": "one",
        "title": {"en": "One", "zh": "一"},
        "factor": "1",
        "share_weight": 3,
        "concurrency": 1,
        "queue_limit": 1,
        "retention_days": 1,
        "free_seconds_per_month": 0,
        "requests_per_minute": 1,
        "jobs_per_minute": 1,
    }
    problems: list[Any] = []
    silent = Membership.read(Table(values, "", problems))
    named = Membership.read(Table({**values, "storage_gib": 7}, "", problems))
    assert not problems
    assert silent.storage_bytes == 3 * STORAGE_GIB_PER_WEIGHT * 2**30
    assert named.storage_bytes == 7 * 2**30
    assert named.content() == {**silent.content(), "storage_gib": 7}, "older books keep their bytes"


def picture(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (colour, 0, 0)).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.fixture
def small_quota(monkeypatch: pytest.MonkeyPatch) -> int:
    """A quota of 30,000 bytes for everybody: a picture of this test has about 12,000."""
    monkeypatch.setattr(Membership, "storage_bytes", property(lambda self: 30_000))
    return 30_000


def test_uploads_end_at_the_quota_and_begin_again_when_one_is_deleted(world: World, small_quota: int) -> None:
    def upload(colour: int) -> Any:
        return world.post("/v1/assets", files={"file": ("a.png", picture(colour), "image/png")})

    first = upload(0).json()["id"]
    with transaction() as session:
        used = stored_bytes(session, world.alice_id)
    begun = world.post("/v1/assets/uploads", {"content_type": "image/png", "bytes": small_quota - used})
    assert begun.status_code == 200, begun.text
    for refused in (
        upload(1),
        world.post("/v1/assets/uploads", {"content_type": "image/png", "bytes": 1}),
        world.post("/v1/videos/estimates", {**ORDER, "first_frame": "data:image/png;base64,AAAA"}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "storage_full"), refused.text
        assert refused.headers["x-should-retry"] == "false"
    assert (
        world.post("/v1/assets", key=world.bob, files={"file": ("a.png", picture(2), "image/png")}).status_code == 200
    )
    for asset_id in (first, begun.json()["id"]):
        assert world.delete(f"/v1/assets/{asset_id}").status_code == 200
    assert upload(3).status_code == 200
