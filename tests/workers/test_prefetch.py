"""The next take's inputs and text, prepared during the running one; and a checkpoint that another machine resumes."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from app.catalog.models import load_catalog
from app.db import transaction
from app.dispatch.choice import peek
from app.dispatch.claim import claim
from app.dispatch.worker_registry import set_draining
from app.jobs.queue_tables import Share, Take, Unit
from app.settings import get_settings
from tests.factories import make_account, make_queued_job, make_spec, units_of
from tests.workers.conftest import Gate
from tests.workers.engine.tiny_wan import CATALOGUE, FACTS, build_tiny_wan
from tests.workers.worker_processes import ObservedWorker, takes, unit, wait_until
from workers.engine import Stopped

pytestmark = pytest.mark.usefixtures("redis_url")
MODEL = "tiny-ti2v"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_wan("ti2v", tmp_path_factory.mktemp("tiny") / "ti2v")


@pytest.fixture
def catalog(engine: Engine, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A catalogue with a tiny Wan, set as the configured one."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    facts, seconds = FACTS["ti2v"]
    words = {"family": "ti2v", "suffix": "", "folder": weights, "facts": facts, "switches": "", "seconds": seconds}
    (folder / "tiny.toml").write_text(CATALOGUE.format(**words), encoding="utf-8")
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(folder))
    monkeypatch.setenv("CINEMETER_DEVICE", "cpu")
    get_settings.cache_clear()
    yield folder
    load_catalog.cache_clear()


def order(*seconds: int) -> list[str]:
    """Queue a storyboard of the tiny model; return its segments in order."""
    with transaction() as session:
        spec = make_spec(seconds=seconds, model=MODEL)
        spec = spec.model_copy(update={"resolution": "480P", "width": 64, "height": 32})
        job = make_queued_job(session, make_account(session).id, spec=spec)
        return [each.id for each in units_of(session, job) if each.kind == "segment"]


def test_the_next_takes_text_is_encoded_during_this_ones_steps(catalog: Path, gate: Gate) -> None:
    first, second = order(1, 1)
    encoded = threading.Event()

    def at_step(unit_id: str, step: int) -> None:
        """The first take has done a step; it goes on when the text of the second one has been encoded."""
        if unit_id == first and step == 1:
            wait_until(lambda: worker.prefetcher._unit_id == second, "the next segment is prepared")
            assert worker.engines.engine is not None
            worker.engines.engine.text._prefetch_thread.submit(encoded.set)  # type: ignore[attr-defined]
            wait_until(encoded.is_set, "its text is encoded")
            assert takes(second) == [], "a peek does not claim"
            assert unit(second).state == "ready"

    gate(lambda key: None)
    worker = ObservedWorker(["demo"], at_step)
    with worker.opened():
        worker.work()
    one, two = (take.meter for take in takes())
    assert one is not None
    assert two is not None
    assert (one["text_cache_hits"], two["text_cache_hits"]) == (0, 2)
    assert encoded.is_set()


def test_a_peek_sees_the_unit_that_a_claim_leases_and_changes_nothing(catalog: Path) -> None:
    order(1, 1)
    with transaction() as session:
        before = {share.account_id: share.vtime for share in session.scalars(select(Share))}
        seen = peek(session, "demo")
        assert peek(session, "demo") == seen
        assert {share.account_id: share.vtime for share in session.scalars(select(Share))} == before
        assert session.scalars(select(Take)).all() == []
    with transaction() as session:
        first_claim = claim(session, "worker-1", ["demo"])
        assert first_claim is not None
        assert first_claim.unit_id == seen
        assert peek(session, "finish") is None


def test_a_guess_that_was_wrong_is_not_used(catalog: Path, gate: Gate) -> None:
    """An order of higher class comes while the guess is kept; its own inputs are rendered."""
    first, second = order(1, 1)
    urgent: list[str] = []

    def at_step(unit_id: str, step: int) -> None:
        if unit_id == first and step == 1:
            wait_until(lambda: worker.prefetcher._unit_id == second, "the next segment is prepared")
            urgent.extend(order(1))
            with transaction() as session:
                units = session.get_one(Unit, urgent[0])
                units.priority = 0

    gate(lambda key: None)
    worker = ObservedWorker(["demo"], at_step)
    with worker.opened():
        worker.work()
    assert worker.begun == [first, urgent[0], second]
    assert [unit(each).state for each in (first, second, *urgent)] == ["done"] * 3


def test_another_machine_resumes_where_a_lost_one_had_come_to(
    catalog: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    [only] = order(1)

    def leave(unit_id: str, step: int) -> None:
        """Once a checkpoint is stored, the worker drains and hands its take back."""
        if step == 2:
            wait_until(lambda: unit(only).checkpoint_key, "the checkpoint is stored")
            with transaction() as session:
                set_draining(session, first.worker_id)
            wait_until(first._draining.is_set, "the worker hears that it drains")
            raise Stopped("this machine goes away")

    gate(lambda key: None)
    first = ObservedWorker(["demo"], leave)
    with first.opened():
        first.work()
    assert [take.state for take in takes(only)] == ["released"]
    monkeypatch.setenv("CINEMETER_HOME", str(tmp_path / "another home"))
    get_settings.cache_clear()
    second = ObservedWorker(["demo"])
    with second.opened():
        second.work()
    resumed = takes(only)[1].meter
    assert resumed is not None
    assert resumed["resumed_from_step"] == 1
    assert resumed["steps"] == 2
    assert unit(only).checkpoint_key is None
    assert resumed["frames"] == unit(only).frames
