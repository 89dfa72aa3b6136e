from dataclasses import replace
from fractions import Fraction

import pytest

from pricing.labels import label_text
from pricing.money import Money
from pricing.price import price
from pricing.receipt import Delivered, Quoted, ReceiptError, read_receipt, receipt, replay
from pricing.usage import Customer
from tests.pricing.inputs import AT, DEFAULT, book, contract, membership, promotion, usage

PRO = Customer("professional")
FACTS = {"job": "job_1", "film": "films/影片.mp4", "sha256": "ab", "frames": "240", "fps": "24"}


def quoted(film, customer=PRO, priced_by=DEFAULT, total=None):
    promise = total or price(priced_by, film, customer, AT).total
    return Quoted("quote_1", film, customer, AT, promise)


def test_a_whole_film_is_charged_as_quoted():
    bill = receipt(DEFAULT, quoted(usage(10)), Delivered("completed", Fraction(10), facts=FACTS))
    assert bill.total.text == "4.39"
    assert bill.billed_seconds == 10


def test_what_was_delivered_is_charged_and_never_more_than_quoted():
    promise = quoted(usage(10))
    assert receipt(DEFAULT, promise, Delivered("cancelled", Fraction(5))).total.text == "2.19"
    assert receipt(DEFAULT, promise, Delivered("completed", Fraction(11))).total.text == "4.39"
    assert receipt(DEFAULT, promise, Delivered("cancelled", Fraction(0))).total.text == "0.00"


@pytest.mark.parametrize("outcome", ["failed", "expired"])
def test_a_job_that_failed_or_expired_costs_nothing(outcome):
    film = usage(10, mode="edit", input_seconds=8)
    bill = receipt(DEFAULT, quoted(film), Delivered(outcome, Fraction(10)))
    assert (bill.total.text, bill.billed_seconds) == ("0.00", 0)
    assert [line.key for line in bill.lines] == ["list"]


def test_a_partly_delivered_film_pays_for_that_part_of_the_video_it_read():
    promise = quoted(usage(10, mode="edit", input_seconds=8), Customer("free"))
    assert promise.total.text == "11.40"
    assert receipt(DEFAULT, promise, Delivered("cancelled", Fraction(5))).total.text == "5.70"


def test_a_missed_start_drops_the_priority_line_and_only_that():
    fast = quoted(usage(10, service_tier="priority"))
    assert receipt(DEFAULT, fast, Delivered("completed", Fraction(10))).total.text == "6.58"
    late = receipt(DEFAULT, fast, Delivered("completed", Fraction(10), started_in_time=False))
    assert late.total.text == "4.39"
    assert not any(line.key == "service_tier" for line in late.lines)
    idle = quoted(usage(10, service_tier="flex"))
    unhurried = receipt(DEFAULT, idle, Delivered("completed", Fraction(10), started_in_time=False))
    assert [line.key for line in unhurried.lines] == ["list", "membership", "promotion", "service_tier"]
    assert unhurried.total.text == "2.19"


def test_free_seconds_are_the_first_delivered_ones():
    promise = quoted(usage(10), Customer("free", free_seconds=Fraction(4)))
    bill = receipt(DEFAULT, promise, Delivered("cancelled", Fraction(5)))
    assert (bill.total.text, bill.price.free_seconds_used) == ("0.90", 4)
    short = receipt(DEFAULT, promise, Delivered("cancelled", Fraction(3)))
    assert (short.total.text, short.price.free_seconds_used) == ("0.00", 3)


def test_a_receipt_never_spends_more_of_a_budget_than_its_quote_reserved():
    some = book(memberships=[membership("free", "0.65")], promotions=[promotion("p", "0.75", budget="1000")])
    promise = quoted(usage(4), Customer("free"), some)
    less = usage(Fraction(959, 240))
    # The shorter film has the smaller discount, yet its share of the rounding is the larger one by a fen.
    assert price(some, usage(4), Customer("free"), AT).promotions == {"p": 58}
    assert price(some, less, Customer("free"), AT).promotions == {"p": 59}
    bill = receipt(some, promise, Delivered("cancelled", less.seconds))
    assert bill.price.promotions == {"p": 58}


def test_a_quote_keeps_its_price_after_a_change_of_the_code():
    promise = quoted(usage(10), total=Money(400, "CNY"))
    bill = receipt(DEFAULT, promise, Delivered("completed", Fraction(10)))
    assert bill.total.text == "4.00"
    assert bill.lines[-1].key == "quote_ceiling"
    assert sum(line.amount.minor for line in bill.lines) == 400
    assert bill.price.tax_included.text == "0.23"
    assert replay(bill.to_json(), DEFAULT) == bill.to_json()


def test_a_receipt_replays_byte_for_byte_from_what_it_records():
    some = book(promotions=[promotion("p", "0.5", budget="3.00")])
    customer = Customer("professional", contract("0.61"), Fraction(1, 3), {"p": 150})
    film = usage(Fraction(121, 24), mode="extend", input_seconds=Fraction(1001, 400), service_tier="priority")
    bill = receipt(some, quoted(film, customer, some), Delivered("cancelled", Fraction(49, 24), facts=FACTS))
    data = bill.to_json()
    assert replay(data, some) == data
    assert "films/影片.mp4".encode() in data
    values = read_receipt(data)
    assert values["book"] == {"name": "test", "hash": some.content_hash}
    assert values["quoted"]["customer"]["contract"]["name"] == "acme"
    assert values["total"] == bill.total.text


def test_a_changed_receipt_does_not_replay():
    data = receipt(DEFAULT, quoted(usage(10)), Delivered("completed", Fraction(10), facts=FACTS)).to_json()
    for old, new in [(b'"total":"4.39"', b'"total":"4.38"'), (b'"amount":"-1.46"', b'"amount":"-1.45"')]:
        forged = data.replace(old, new)
        assert forged != data
        assert replay(forged, DEFAULT) != forged


def test_what_cannot_be_replayed_says_why():
    data = receipt(DEFAULT, quoted(usage(10)), Delivered("completed", Fraction(10))).to_json()
    with pytest.raises(ReceiptError, match="made with book"):
        replay(data, book())
    for broken in (
        b"",
        b"[]",
        b'{"receipt":2}',
        b'{"receipt":1}',
        b"\xff",
        data.replace(b'"seconds":"10"', b'"seconds":10'),
    ):
        with pytest.raises(ReceiptError):
            replay(broken, DEFAULT)


def test_the_lines_of_stored_bytes_read_in_both_languages():
    values = read_receipt(receipt(DEFAULT, quoted(usage(5)), Delivered("completed", Fraction(5))).to_json())
    lines = [(label_text(line["key"], line["facts"], "zh"), line["amount"]) for line in values["lines"]]
    assert lines[1:] == [("专业版会员（×0.65）", "-1.58"), ("限时优惠（×0.75）", "-0.73")]
    assert "label" not in values["lines"][0]


def test_inputs_of_a_receipt_are_refused_by_type():
    for call in (
        lambda: Delivered("completed", 5.0),
        lambda: Delivered("completed", Fraction(5), started_in_time=1),
        lambda: Delivered("completed", Fraction(5), facts={"frames": 120}),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(ValueError):
        Delivered("done", Fraction(5))
    with pytest.raises(ValueError):
        Delivered("completed", Fraction(-5))
    with pytest.raises(ValueError):
        replace(quoted(usage(5)), usage=usage(0))
