"""Receipts, cases and a simulation that were recorded before prices had a `RateKey`: they come out byte for byte."""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from pricing.book import PriceBook
from pricing.contract import Contract, canonical
from pricing.receipt import read_receipt, replay
from pricing.simulate import PastJob, simulate
from pricing.simulation_result import Case

RECORDED = json.loads(Path(__file__).with_name("recorded_receipts.json").read_text(encoding="utf-8"))
BOOKS = {book.content_hash: book for book in map(PriceBook.from_content, RECORDED["books"])}


@pytest.mark.parametrize("recorded", RECORDED["receipts"], ids=lambda each: json.loads(each["body"])["quoted"]["id"])
def test_a_recorded_receipt_replays_byte_for_byte(recorded):
    body = recorded["body"].encode()
    assert read_receipt(body)["book"]["hash"] == recorded["book"]
    assert replay(body, BOOKS[recorded["book"]]) == body


def test_recorded_books_and_contracts_keep_their_content_and_their_hash():
    for content in RECORDED["books"]:
        assert canonical(PriceBook.from_content(content).content()) == canonical(content)
    for content in RECORDED["simulation"]["contracts"]:
        assert canonical(Contract.from_content(content).content()) == canonical(content)
    assert {each["book"] for each in RECORDED["receipts"]} == set(BOOKS)


def test_recorded_cases_are_read_and_written_as_they_are():
    for recorded in RECORDED["receipts"]:
        text, usage = recorded["pricing_case"], json.loads(recorded["body"])["quoted"]["usage"]
        case = Case.from_json(text)
        assert case.to_json() == text
        assert {name: usage[name] for name in case.key.content()} == case.key.content()


def test_a_recorded_simulation_comes_out_the_same():
    recorded = RECORDED["simulation"]
    contracts = {each.content_hash: each for each in map(Contract.from_content, recorded["contracts"])}
    past = [
        PastJob(Case.from_json(text), datetime.fromisoformat(at), *figures) for text, at, *figures in recorded["past"]
    ]
    outcome = simulate(
        PriceBook.from_content(recorded["draft"]),
        past,
        contracts=contracts,
        cost_per_gpu_second=Decimal(recorded["cost_per_gpu_second"]),
        in_force=BOOKS[recorded["in_force"]],
    )
    assert canonical(outcome.content()) == canonical(recorded["content"])
