"""A model with terms is off until an operator has accepted them, and again when their text changes."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.audit_log.actor import SYSTEM_ACTOR, Actor
from app.audit_log.log import list_entries
from app.catalog.models import VideoModel, load_catalog
from app.errors import AppError
from app.jobs.model_terms import acknowledge_terms, acknowledgement_of, check_terms, on_sale, terms_hash
from app.jobs.quote import estimate
from app.jobs.tables import AcknowledgedTerms
from app.settings import get_settings
from tests.ledger_simulation import Line, request

Entry = Callable[..., VideoModel]


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entry]:
    """Return a function that writes the model `guarded`, the demo with terms, into the operator's catalogue."""
    demo = files("app.catalog").joinpath("demo.toml").read_text(encoding="utf-8")
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(tmp_path))
    get_settings.cache_clear()

    def write(terms: str) -> VideoModel:
        text = demo.replace('id = "demo"', f'id = "guarded"\nacknowledge = "{terms}"')
        (tmp_path / "guarded.toml").write_text(text, encoding="utf-8")
        load_catalog.cache_clear()
        return load_catalog(tmp_path)["guarded"]

    yield write
    monkeypatch.undo()
    get_settings.cache_clear()
    load_catalog.cache_clear()


@pytest.fixture
def ask(session: Session) -> Callable[..., dict[str, Any]]:
    """Return a function that resolves and prices a request of a free account."""
    caller: Caller = Line(session).open(membership="free")
    return lambda **fields: estimate(session, caller, request(**{"seconds": 5, **fields})).resolved()


def test_an_order_before_the_terms_are_accepted_is_refused(
    session: Session, entry: Entry, ask: Callable[..., dict[str, Any]]
) -> None:
    model = entry("Not for commercial use.")
    with pytest.raises(AppError) as refused:
        ask(model="guarded")
    assert (refused.value.code, refused.value.status, refused.value.field) == ("terms_not_acknowledged", 403, "model")
    assert "cinemeter models acknowledge guarded" in refused.value.message
    assert "console" in refused.value.message
    assert ask(model="auto")["model"] == "demo", "a model that is off is none that `auto` may take"
    assert "guarded" not in {each.id for each in on_sale(session, load_catalog(get_settings().catalog_dir).values())}
    acknowledge_terms(session, SYSTEM_ACTOR, "guarded", words=terms_hash(model))
    assert ask(model="guarded")["model"] == "guarded"
    assert on_sale(session, [model]) == [model]
    [logged] = [each for each in list_entries(session, subject="guarded") if each.act == "model.terms_acknowledged"]
    assert logged.actor == SYSTEM_ACTOR.person
    assert logged.facts == {"terms": "Not for commercial use.", "terms_hash": terms_hash(model)}


def test_other_words_are_accepted_anew(session: Session, entry: Entry) -> None:
    first = entry("One film a day.")
    acknowledge_terms(session, SYSTEM_ACTOR, "guarded", words=terms_hash(first))
    second = entry("Two films a day.")
    with pytest.raises(AppError, match="off until"):
        check_terms(session, second)
    with pytest.raises(AppError, match="have changed") as stale:
        acknowledge_terms(session, SYSTEM_ACTOR, "guarded", words=terms_hash(first))
    assert stale.value.code == "conflict"
    acknowledge_terms(session, SYSTEM_ACTOR, "guarded", words=terms_hash(second))
    check_terms(session, second)
    with pytest.raises(AppError, match="accepted already"):
        acknowledge_terms(session, SYSTEM_ACTOR, "guarded", words=terms_hash(second))


def test_only_an_operator_accepts_terms(session: Session, entry: Entry) -> None:
    model = entry("Only on Sundays.")
    author = Actor("ada", "key_ada", frozenset({"pricing_author"}))
    with pytest.raises(AppError, match="operator"):
        acknowledge_terms(session, author, "guarded", words=terms_hash(model))
    assert acknowledgement_of(session, model) is None
    for unknown in ("demo", "no-such-model"):
        with pytest.raises(AppError) as missing:
            acknowledge_terms(session, SYSTEM_ACTOR, unknown, words="")
        assert missing.value.code == "not_found"


def test_what_was_accepted_cannot_be_changed(session: Session, entry: Entry) -> None:
    row = acknowledge_terms(session, SYSTEM_ACTOR, "guarded", words=terms_hash(entry("For ever.")))
    row.person = "somebody else"
    with pytest.raises(IntegrityError, match="never changed"):
        session.flush()


def test_models_without_terms_ask_nobody(session: Session) -> None:
    check_terms(session, load_catalog()["demo"])
    assert session.query(AcknowledgedTerms).count() == 0


def test_kandinsky_says_what_is_not_known_of_its_sound_codec() -> None:
    entries = [each for each in load_catalog().values() if each.family == "kandinsky6"]
    assert {each.id for each in entries} == {
        *("kandinsky6-lite", "kandinsky6-lite-distilled", "kandinsky6-pro", "kandinsky6-pro-distilled"),
    }
    for each in entries:
        assert not each.enabled
        assert "CC-BY-NC-4.0" in each.acknowledge
        assert (each.guidance == 1.0) == each.id.endswith("-distilled")
