from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from pricing.book import PriceError
from pricing.check import check_examples
from pricing.labels import MODE_LABELS, mode_words
from pricing.money import round_to_minor
from pricing.price import per_second, price
from pricing.rate_key import MODES
from pricing.usage import Customer, Usage
from tests.pricing.inputs import AT, DEFAULT, book, contract, promotion, usage

FREE, PRO = Customer("free"), Customer("professional")


def lines(result):
    return [(line.rule, line.amount.text) for line in result.lines]


@pytest.mark.parametrize(
    ("seconds", "total"),
    [(1, "0.44"), (5, "2.19"), (7, "3.07"), (10, "4.39"), (12, "5.27"), (13, "5.70"), (15, "6.58"), (60, "26.33")],
)
def test_professional_and_launch_offer_at_720p(seconds, total):
    assert price(DEFAULT, usage(seconds), PRO, AT).total.text == total


def test_the_other_published_figures():
    assert price(DEFAULT, usage(10, service_tier="flex"), PRO, AT).total.text == "2.19"
    assert price(DEFAULT, usage(5), FREE, AT).total.text == "4.50"
    assert price(DEFAULT, usage(5, "1080P"), PRO, AT).total.text == "3.90"
    assert price(DEFAULT, usage(10, "1080P"), FREE, AT).total.text == "16.00"
    assert price(DEFAULT, usage(1, "1080P"), PRO, AT).total.text == "0.78"


def test_the_book_carries_these_examples_itself():
    assert check_examples(DEFAULT) == []
    carried = {
        (str(e.seconds), e.key.resolution, e.membership, e.service_tier): e.total.text
        for e in DEFAULT.examples
        if e.at == AT
    }
    assert carried[("10", "720P", "professional", "flex")] == "2.19"
    assert carried[("60", "720P", "professional", "standard")] == "26.33"
    assert carried[("10", "1080P", "free", "standard")] == "16.00"


def test_the_launch_offer_runs_for_one_year_both_days_included():
    def total(moment):
        return price(DEFAULT, usage(10), PRO, datetime.fromisoformat(moment)).total.text

    assert total("2026-04-26T23:59:59.999999+08:00") == "5.85"
    assert total("2026-04-27T00:00:00+08:00") == "4.39"
    assert total("2027-04-26T23:59:59.999999+08:00") == "4.39"
    assert total("2027-04-27T00:00:00+08:00") == "5.85"
    assert total("2026-04-26T16:00:00+00:00") == "4.39"


def test_lines_stand_in_the_order_of_the_rules():
    some = book(
        promotions=[promotion("second", "0.9", 20), promotion("first", "0.8", 10)],
    )
    customer = Customer("professional", contract("0.60"), free_seconds=Fraction(2))
    film = usage(10, mode="edit", input_seconds=4, service_tier="priority")
    result = price(some, film, customer, AT)
    assert [line.rule for line in result.lines] == [
        "rate:all",
        "rate:all",
        "free_seconds",
        "contract:acme/agreed",
        "membership:professional",
        "promotion:first",
        "promotion:second",
        "tier:priority",
    ]
    assert [line.key for line in result.lines][:2] == ["list", "input_seconds"]
    paid = 8 * Decimal("0.60") + 4 * Decimal("0.10")
    assert result.total.major == (paid * Decimal("0.65") * Decimal("0.72") * Decimal("1.5")).quantize(Decimal("0.01"))
    assert result.list_total.text == "10.20"
    assert result.free_seconds_used == 2


def test_the_lines_of_five_seconds():
    result = price(DEFAULT, usage(5), PRO, AT)
    assert lines(result) == [
        ("rate:list-720p", "4.50"),
        ("membership:professional", "-1.58"),
        ("promotion:launch-2026", "-0.73"),
    ]
    assert result.promotions == {"launch-2026": 73}
    assert result.tax_included.text == "0.12"


def test_free_seconds_are_the_first_and_never_more_than_the_film():
    some = price(DEFAULT, usage(5), Customer("free", free_seconds=Fraction(3)), AT)
    assert (some.total.text, some.free_seconds_used) == ("1.80", 3)
    every = price(DEFAULT, usage(5), Customer("professional", free_seconds=Fraction(300)), AT)
    assert (every.total.text, every.free_seconds_used) == ("0.00", 5)
    assert lines(every) == [("rate:list-720p", "4.50"), ("free_seconds", "-4.50")]


def test_free_seconds_do_not_pay_for_the_video_that_is_read():
    film = usage(5, mode="extend", input_seconds=2)
    assert price(DEFAULT, film, Customer("free", free_seconds=Fraction(5)), AT).total.text == "0.60"


def test_a_contract_replaces_the_list_rate_where_it_has_one():
    agreed = contract(rates=[{"id": "hd", "resolution": "720P", "per_second": "0.5"}], membership_applies=False)
    customer = Customer("professional", agreed)
    some = book()
    assert price(some, usage(10), customer, AT).total.text == "5.00"
    assert price(some, usage(10, "1080P"), customer, AT).total.text == "5.85"
    assert price(some, usage(10), replace(customer, contract=contract("2.00")), AT).total.text == "13.00"


def test_a_contract_counts_only_in_its_window_and_currency():
    over = contract(ends_at="2026-06-01T12:00:00+08:00")
    assert price(book(), usage(1), Customer("free", over), AT).total.text == "0.90"
    with pytest.raises(PriceError) as caught:
        price(book(), usage(1), Customer("free", contract(currency="USD")), AT)
    assert caught.value.code == "currency_mismatch"


def test_promotions_choose_who_and_what():
    offer = promotion(
        "p", "0.5", memberships=["professional"], models=["wan*"], resolutions=["720P"], modes=["i2v"],
        service_tiers=["standard"],
    )  # fmt: skip
    some = book(promotions=[offer])
    fits = usage(1, mode="i2v", model="wan2.2")
    assert price(some, fits, PRO, AT).promotions
    for film, customer in [
        (fits, FREE),
        (replace(fits, key=replace(fits.key, model="demo")), PRO),
        (replace(fits, key=replace(fits.key, resolution="1080P")), PRO),
        (replace(fits, key=replace(fits.key, mode="t2v")), PRO),
        (replace(fits, service_tier="flex"), PRO),
    ]:
        assert not price(some, film, customer, AT).promotions


def test_a_promotion_gives_what_it_has_left_and_no_more():
    some = book(promotions=[promotion("p", "0.5", cap_per_account="10", budget="3.00")])
    film = usage(10)

    def discount(left):
        return price(some, film, Customer("free", promotions_left=left), AT).promotions.get("p")

    assert discount(None) == 300
    assert discount({"p": 120}) == 120
    assert discount({"p": 0}) is None
    assert discount({}) is None
    assert discount({"p": 100_000}) == 300
    assert discount({"p": None}) == 300


def test_a_missed_promise_drops_the_tier_line():
    film = usage(10, service_tier="priority")
    assert price(DEFAULT, film, PRO, AT).total.text == "6.58"
    assert price(DEFAULT, film, PRO, AT, tier_kept=False).total.text == "4.39"


def test_the_whole_job_is_priced_and_never_its_segments():
    segments = [price(DEFAULT, usage(5), PRO, AT).total.minor for _ in range(6)]
    assert sum(segments) == 1314
    assert price(DEFAULT, usage(30), PRO, AT).total.minor == 1316


def test_the_published_price_per_second_is_only_for_display():
    exact = per_second(DEFAULT, usage(60), replace(PRO, free_seconds=Fraction(9)), AT)
    assert exact == Fraction("0.43875")
    assert round_to_minor(exact, "CNY").text == "0.44"
    differing = [n for n in range(1, 61) if price(DEFAULT, usage(n), PRO, AT).total.minor != 44 * n]
    assert len(differing) == 56


def test_seconds_are_exact():
    assert price(DEFAULT, usage(Fraction(121, 24)), FREE, AT).total.text == "4.54"
    # 30 fps of NTSC: 150 frames are 5.005 s.
    assert price(DEFAULT, usage(150 / Fraction(30000, 1001)), FREE, AT).total.text == "4.50"


def test_a_currency_without_minor_units():
    some = book(
        currency="JPY", rates=[{"id": "all", "per_second": "18.5"}],
        examples=[{"name": "x", "at": AT, "membership": "free", "resolution": "720P", "seconds": 1, "total": "19"}],
    )  # fmt: skip
    assert check_examples(some) == []
    assert price(some, usage(3), PRO, AT).total.text == "36"


@pytest.mark.parametrize("value", [5.0, "5", True, None])
def test_floats_are_refused_by_type_everywhere(value):
    with pytest.raises(TypeError):
        usage(value)
    with pytest.raises(TypeError):
        usage(5, mode="edit", input_seconds=value)
    with pytest.raises(TypeError):
        Customer("free", free_seconds=value)
    if value is not None:
        with pytest.raises(TypeError):
            Customer("free", promotions_left={"p": value})


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="negative"):
        usage(-1)
    with pytest.raises(ValueError, match="reads no video"):
        usage(1, mode="t2v", input_seconds=1)
    with pytest.raises(ValueError, match="negative"):
        Customer("free", promotions_left={"p": -1})
    with pytest.raises(TypeError):
        Usage("demo", "720P", "t2v", "no", Fraction(1))
    with pytest.raises(TypeError):
        price(DEFAULT, usage(1), FREE, "2026-06-01")
    with pytest.raises(ValueError, match="offset"):
        price(DEFAULT, usage(1), FREE, datetime(2026, 6, 1))


def test_every_mode_is_said_in_words():
    assert set(MODE_LABELS) == set(MODES)
    for mode in MODES:
        assert mode_words(mode, "en") == MODE_LABELS[mode]["en"] != mode
        assert mode_words(mode, "zh") == MODE_LABELS[mode]["zh"] != mode


def test_lines_read_in_both_languages():
    result = price(DEFAULT, usage(Fraction(121, 24)), PRO, AT)
    assert [line.label for line in result.lines] == [
        "List price: 5.042 s at 0.90 CNY/s (demo, 720P, from text)",
        "Professional membership (×0.65)",
        "Launch offer (×0.75)",
    ]
    assert [line.words("zh") for line in result.lines] == [
        "目录价：5.042 秒 × 0.90 CNY/秒（demo，720P，文生视频）",
        "专业版会员（×0.65）",
        "限时优惠（×0.75）",
    ]
