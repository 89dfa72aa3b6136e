"""The API in this process, on a real database and Redis, and a worker loop that runs when the test calls it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.accounts.memberships import grant_membership
from app.api.application import create_app
from app.clock import now
from app.db import transaction
from app.settings import get_settings
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up
from workers.worker_loop import WorkerLoop

SCOPES = ("videos", "billing", "webhooks")


@dataclass
class World:
    """A small service: two accounts with money, their keys, and the clients that use them."""

    app: TestClient
    alice: str
    bob: str
    alice_id: str
    bob_id: str
    test_key: str

    def get(self, path: str, key: str | None = None, **options: object):
        return self.app.get(path, headers=self._headers(key, options), **options)  # type: ignore[arg-type]

    def post(self, path: str, json: object = None, key: str | None = None, **options: object):
        return self.app.post(path, json=json, headers=self._headers(key, options), **options)  # type: ignore[arg-type]

    def delete(self, path: str, key: str | None = None, **options: object):
        return self.app.delete(path, headers=self._headers(key, options), **options)  # type: ignore[arg-type]

    def _headers(self, key: str | None, options: dict[str, object]) -> dict[str, str]:
        headers = options.pop("headers", {})
        return {"Authorization": f"Bearer {key or self.alice}", **headers}  # type: ignore[dict-item]

    def work(self) -> None:
        """Run all queued units in this process, as one worker would."""
        worker = WorkerLoop("worker-in-test", ["finish", "synthetic"])
        worker.open()
        try:
            worker.work()
        finally:
            worker.close()


@cache
def shared_app() -> FastAPI:
    """The API of this process. Its routes take a quarter of a second to build, which every test would pay anew."""
    return create_app()


@pytest.fixture
def world(engine: Engine, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("CINEMETER_SECRET", "a secret of this test")
    monkeypatch.setenv("CINEMETER_DEVICE", "cpu")
    get_settings.cache_clear()
    with transaction(engine) as session:
        keys, ids = [], []
        for name in ("Alice", "Bob"):
            account = create_account(session, name)
            open_wallet(session, account.id)
            top_up(session, account.id, 100_000, kind="purchased", reference=f"seed {name}")
            grant_membership(session, account.id, "professional", starts_at=now(session) - timedelta(days=1))
            keys.append(issue_key(session, account.id, scopes=SCOPES)[1])
            ids.append(account.id)
        test_key = issue_key(session, ids[0], scopes=SCOPES, test=True)[1]
    with TestClient(shared_app(), raise_server_exceptions=False) as client:
        yield World(client, *keys, *ids, test_key)
    get_settings.cache_clear()
