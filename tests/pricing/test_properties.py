"""What holds for every book, film and buyer, not only for the examples."""

import json
from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.book import PriceBook
from pricing.contract import canonical
from pricing.money import Money, round_to_minor, split
from pricing.price import price
from pricing.receipt import OUTCOMES, Delivered, Quoted, receipt, replay
from tests.pricing.inputs import AT, books, customers, factors, seconds, usages
from tests.pricing.inputs import promotion as promotion_values

shared = settings(deadline=None, max_examples=100)


# What can be ordered has a length.
films = usages().filter(lambda usage: usage.seconds > 0)


def quoted(book, usage, customer):
    return Quoted("q", usage, customer, AT, price(book, usage, customer, AT).total)


@shared
@given(books(), usages(), customers())
def test_lines_sum_to_the_total_that_was_rounded_once(book, usage, customer):
    result = price(book, usage, customer, AT)
    assert sum(line.amount.minor for line in result.lines) == result.total.minor
    assert result.total == round_to_minor(sum((line.exact for line in result.lines), Fraction(0)), book.currency)
    assert result.total.minor >= 0
    for line in result.lines:
        assert abs(line.exact * 100 - line.amount.minor) < 1


@shared
@given(books(), usages(), customers(), seconds)
def test_more_seconds_never_cost_less(book, usage, customer, more):
    longer = replace(usage, seconds=usage.seconds + more)
    assert price(book, usage, customer, AT).total <= price(book, longer, customer, AT).total


@shared
@given(books(), usages(), customers(), factors)
def test_a_promotion_never_raises_a_price(book, usage, customer, factor):
    content = book.content()
    extra = promotion_values("extra", factor, 3)
    richer = PriceBook.from_content(content | {"promotions": [*content["promotions"], extra]})
    assert price(richer, usage, customer, AT).total <= price(book, usage, customer, AT).total


@shared
@given(books(), usages(), customers())
def test_no_discount_raises_a_price(book, usage, customer):
    total = price(book, usage, customer, AT).total
    assert total <= price(book, usage, replace(customer, free_seconds=Fraction(0)), AT).total
    content = book.content()
    for member in content["memberships"]:
        member["factor"] = "1"
    assert total <= price(PriceBook.from_content(content), usage, customer, AT).total


@shared
@given(books(), usages(), customers())
def test_no_promotion_gives_more_than_it_has_left(book, usage, customer):
    given_away = price(book, usage, customer, AT).promotions
    for promotion in book.promotions:
        left = promotion.left(customer.promotions_left)
        assert left is None or given_away.get(promotion.id, 0) <= left


@shared
@given(books(), films, customers(), st.sampled_from(OUTCOMES), seconds, st.booleans())
def test_a_receipt_is_never_above_its_quote_and_replays(book, usage, customer, outcome, delivered, in_time):
    promise = quoted(book, usage, customer)
    bill = receipt(book, promise, Delivered(outcome, delivered, in_time, {"film": "影片"}))
    assert bill.total <= promise.total
    assert all(line.key != "quote_ceiling" for line in bill.lines)
    assert sum(line.amount.minor for line in bill.lines) == bill.total.minor
    assert bill.billed_seconds <= min(usage.seconds, delivered)
    if outcome in ("failed", "expired") or not delivered:
        assert bill.total.minor == 0
    reserved = price(book, usage, customer, AT)
    assert bill.price.free_seconds_used <= reserved.free_seconds_used
    assert all(minor <= reserved.promotions.get(name, 0) for name, minor in bill.price.promotions.items())
    again = replay(bill.to_json(), book)
    assert again == bill.to_json()
    assert replay(again, PriceBook.from_content(json.loads(canonical(book.content())))) == again


@shared
@given(books(), films, customers())
def test_a_complete_film_in_time_costs_what_was_quoted(book, usage, customer):
    promise = quoted(book, usage, customer)
    bill = receipt(book, promise, Delivered("completed", usage.seconds))
    assert bill.total == promise.total
    assert bill.lines == price(book, usage, customer, AT).lines


@shared
@given(books(), films, customers(), seconds, seconds)
def test_more_delivered_never_costs_less(book, usage, customer, some, more):
    promise = quoted(book, usage, customer)
    less = receipt(book, promise, Delivered("cancelled", some)).total
    assert less <= receipt(book, promise, Delivered("cancelled", some + more)).total


@shared
@given(books())
def test_a_book_survives_its_canonical_form(book):
    again = PriceBook.from_content(json.loads(canonical(book.content())))
    assert again == book
    assert again.content_hash == book.content_hash


@shared
@given(st.lists(st.fractions(-100, 100, max_denominator=10_000), max_size=8))
def test_split_shares_sum_and_stay_near(parts):
    total = round_to_minor(sum(parts, Fraction(0)), "CNY")
    shares = split(total, parts)
    assert sum(share.minor for share in shares) == total.minor
    for part, share in zip(parts, shares, strict=True):
        assert abs(part * 100 - share.minor) < 1
        assert share.minor == part * 100 or (part * 100).denominator != 1


@shared
@given(st.integers(-(10**12), 10**12), st.sampled_from(["CNY", "JPY"]))
def test_money_reads_what_it_writes(minor, currency):
    money = Money(minor, currency)
    assert Money.parse(money.text, currency) == money


@shared
@given(st.fractions(max_denominator=1001))
def test_settle_is_half_up_away_from_zero(amount):
    minor = round_to_minor(amount, "CNY").minor
    assert abs(minor - amount * 100) <= Fraction(1, 2)
    if abs(minor - amount * 100) == Fraction(1, 2):
        assert abs(minor) > abs(amount * 100)
