import json
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from pricing.book import parse_book
from pricing.contract import canonical
from pricing.money import Money
from pricing.price import price
from pricing.rate_key import RateKey
from pricing.simulate import PastJob, simulate
from pricing.simulation_result import Case
from pricing.usage import Customer
from tests.pricing.inputs import AT, DEFAULT, DEFAULT_TEXT, book, contract, promotion, usage

DEARER = parse_book(DEFAULT_TEXT.replace('per_second = "0.90"', 'per_second = "1.00"'))


def case(seconds="5", resolution="720P", membership="professional", model="demo", mode="t2v", **rest):
    values = {
        "key": RateKey(model, resolution, mode),
        "seconds": seconds,
        "input_seconds": "0",
        "service_tier": "standard",
        "tier_kept": True,
        "membership": membership,
        "contract": "",
        "free_seconds": "0",
    }
    return Case(**(values | rest))


def test_the_book_in_force_changes_nothing():
    past = [PastJob(case(), AT, "acct", 3, 3 * 219, 0), PastJob(case("10", "1080P", "free"), AT, "other", 1, 1600, 0)]
    outcome = simulate(DEFAULT, past)
    assert outcome.whole.before == outcome.whole.after == Money(3 * 219 + 1600, "CNY")
    assert outcome.winners == outcome.losers == ()
    assert outcome.whole.seconds == 25
    assert outcome.groups == 2


def test_sums_are_those_of_single_prices():
    past = [
        PastJob(
            case(str(seconds), resolution, member), AT + timedelta(hours=index), f"acct-{index % 7}", 1, 100 + index, 10
        )
        for index, (seconds, resolution, member) in enumerate(
            (s, r, m) for s in range(1, 20) for r in ("480P", "720P", "1080P") for m in ("free", "professional")
        )
    ]
    single = [
        price(DEARER, usage(int(p.case.seconds), p.case.key.resolution), Customer(p.case.membership), p.at).total.minor
        for p in past
    ]
    outcome = simulate(DEARER, past, cost_per_gpu_second=Decimal("0.002"))
    assert outcome.whole.after.minor == sum(single)
    assert outcome.whole.before.minor == sum(p.charged for p in past)
    for buckets in (outcome.by_membership, outcome.by_resolution, outcome.by_model):
        assert sum(bucket.after.minor for bucket in buckets.values()) == sum(single)
        assert sum(bucket.jobs for bucket in buckets.values()) == len(past)
    for change in (*outcome.winners, *outcome.losers):
        own = [minor for minor, p in zip(single, past, strict=True) if p.account == change.account]
        assert (change.jobs, change.after.minor) == (len(own), sum(own))
    assert outcome.gpu_seconds == Decimal("1.14")
    assert outcome.cost.text == "0.00"


def test_winners_and_losers_are_the_ten_that_move_most():
    past = [PastJob(case(membership="free"), AT, f"acct-{index:02d}", 1, 450 + index, 0) for index in range(-20, 21)]
    outcome = simulate(DEFAULT, past)
    assert [change.account for change in outcome.winners] == [f"acct-{index}" for index in range(20, 10, -1)]
    assert [change.account for change in outcome.losers] == [f"acct-{-index}" for index in range(20, 10, -1)]


def test_whose_membership_is_gone_is_charged_as_an_order_would_be():
    smaller = replace(DEFAULT, memberships={"free": DEFAULT.memberships["free"]})
    outcome = simulate(smaller, [PastJob(case(), AT, "acct", 2, 438, 0)])
    expected = price(smaller, usage(5, "720P"), Customer("free"), AT).total.minor
    assert (outcome.refused, outcome.whole.after.minor) == ((), 2 * expected)
    assert [change.account for change in outcome.losers] == ["acct"]


def test_changed_free_seconds_are_named():
    studio = replace(DEFAULT.memberships["studio"], free_seconds_per_month=0)
    without = replace(DEFAULT, memberships={**DEFAULT.memberships, "studio": studio})
    past = [PastJob(case(), AT, "acct", 1, 219, 0)]
    assert simulate(without, past, in_force=DEFAULT).free_seconds_changed == ("studio",)
    assert simulate(DEFAULT, past, in_force=DEFAULT).free_seconds_changed == ()


def test_moments_on_both_sides_of_a_window_are_priced_apart():
    ended = datetime.fromisoformat("2027-06-01T00:00:00+08:00")
    outcome = simulate(DEFAULT, [PastJob(case(), AT, "a", 1, 219, 0), PastJob(case(), ended, "a", 1, 293, 0)])
    assert (outcome.groups, outcome.whole.after.minor) == (2, 219 + 293)


def test_the_edges_of_a_window_fall_on_the_side_that_the_price_gives_them():
    first, end = (datetime.fromisoformat(text) for text in ("2026-04-27T00:00:00+08:00", "2027-04-27T00:00:00+08:00"))
    assert simulate(DEFAULT, [PastJob(case(), first, "a", 1, 0, 0)]).whole.after.minor == 219
    assert simulate(DEFAULT, [PastJob(case(), end, "a", 1, 0, 0)]).whole.after.minor == 293
    assert simulate(DEFAULT, [PastJob(case(), first - timedelta(seconds=1), "a", 1, 0, 0)]).whole.after.minor == 293


def test_contracts_tiers_and_free_seconds_count():
    agreed = contract("0.50")
    past = [
        PastJob(case(membership="free", contract="c1"), AT, "a", 1, 0, 0),
        PastJob(case(membership="free", free_seconds="2"), AT, "a", 1, 0, 0),
        PastJob(case(membership="free", service_tier="priority", tier_kept=False), AT, "a", 1, 0, 0),
        PastJob(case(membership="free", mode="edit", input_seconds="10"), AT, "a", 1, 0, 0),
    ]
    outcome = simulate(DEFAULT, past, contracts={"c1": agreed})
    assert outcome.whole.after.minor == 250 + 270 + 450 + 750
    with pytest.raises(KeyError):
        simulate(DEFAULT, past)


def test_jobs_without_a_rate_are_reported_and_left_out():
    lonely = book(rates=[{"id": "only", "resolution": "720P", "per_second": "0.90"}])
    past = [PastJob(case(membership="free"), AT, "a", 1, 450, 5), PastJob(case(resolution="480P"), AT, "a", 4, 900, 5)]
    outcome = simulate(lonely, past)
    assert (outcome.whole.jobs, outcome.whole.before.minor, outcome.whole.after.minor) == (1, 450, 450)
    assert [(refused.jobs, refused.charged.minor) for refused in outcome.refused] == [(4, 900)]
    assert outcome.winners == ()


def test_a_budget_that_would_run_dry_is_named():
    some = book(promotions=[promotion("p", "0.5", budget="100.00"), promotion("q", "0.5", budget="10000.00")])
    outcome = simulate(some, [PastJob(case(membership="free"), AT, "a", 100, 45000, 0)])
    assert outcome.promotions["p"].text == "225.00"
    assert outcome.over_budget == ("p",)


def test_margin_is_revenue_less_metered_gpu_seconds():
    past = [
        PastJob(case(membership="free"), AT, "a", 1, 450, 90_000),
        PastJob(case("0", membership="free"), AT, "a", 1, 0, 60_500),
    ]
    outcome = simulate(DEARER, past, cost_per_gpu_second=Decimal("0.01"))
    assert outcome.gpu_seconds == Decimal("150.5")
    assert outcome.cost.text == "1.51"
    assert (outcome.margin_before.text, outcome.margin_after.text) == ("2.99", "3.49")


def test_the_outcome_is_plain_and_without_floats():
    past = [PastJob(case(), AT, "a", 2, 438, 1500)]
    values = simulate(DEARER, past, cost_per_gpu_second=1).content()
    assert json.loads(canonical(values), parse_float=pytest.fail) == values
    assert values["whole"] == {"jobs": 2, "seconds": "10", "before": "4.38", "after": "4.88", "change": "0.50"}


def test_floats_are_refused():
    for past in (
        PastJob(case(), AT, "a", 1, 4.5, 0),
        PastJob(case(), AT, "a", 1, 0, 0.5),
        PastJob(case(), AT, "a", 1.0, 0, 0),
    ):
        with pytest.raises(TypeError):
            simulate(DEFAULT, [past])
    with pytest.raises(TypeError):
        simulate(DEFAULT, [], cost_per_gpu_second=0.01)
