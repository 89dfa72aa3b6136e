import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from pricing.book import PriceBook, PriceError, parse_book
from pricing.books import DEFAULT as DEFAULT_NAME
from pricing.books import shipped
from pricing.check import check_examples, validate
from pricing.contract import Contract, parse_contract
from pricing.rate_key import RESOLUTIONS, RateKey
from pricing.schema import BookError
from tests.pricing.inputs import AT, DEFAULT, DEFAULT_TEXT, book, book_content, contract, membership, promotion, tier


def problems(**changes):
    with pytest.raises(BookError) as caught:
        PriceBook.from_content(book_content(**changes))
    return {problem.path: problem.message for problem in caught.value.problems}


def test_the_shipped_book_is_sound():
    assert shipped() == [DEFAULT_NAME]
    assert validate(DEFAULT_TEXT) == []
    assert DEFAULT.name == DEFAULT_NAME
    assert list(DEFAULT.memberships) == ["free", "professional", "studio", "enterprise"]
    assert DEFAULT.membership("professional").factor == Decimal("0.65")
    assert DEFAULT.tier("flex").deadline.total_seconds() == 24 * 3600
    assert DEFAULT.tier("priority").start_within.total_seconds() == 600


def test_the_hash_is_of_the_content_and_not_of_its_spelling():
    respelled = DEFAULT_TEXT.replace('per_second = "0.90"', 'per_second = "0.9000"').replace("# published", "#")
    assert respelled != DEFAULT_TEXT
    assert parse_book(respelled).content_hash == DEFAULT.content_hash
    dearer = DEFAULT_TEXT.replace('per_second = "0.90"', 'per_second = "0.91"')
    assert parse_book(dearer).content_hash != DEFAULT.content_hash
    based = parse_book(DEFAULT_TEXT.replace("format = 1", f'format = 1\nbased_on = "{DEFAULT.content_hash}"'))
    assert based.based_on == DEFAULT.content_hash
    assert based.content_hash != DEFAULT.content_hash


def test_a_bare_decimal_is_refused_with_what_to_write():
    report = validate(DEFAULT_TEXT.replace('per_second = "0.90"', "per_second = 0.90"))
    assert [str(problem) for problem in report] == [
        'rates[1].per_second: is the bare number 0.90; write it in quotes: "0.90"'
    ]


def test_unknown_keys_are_refused_with_the_nearest_and_the_allowed():
    report = problems(memberships=[membership("free", factr="1")])
    assert "did you mean 'factor'?" in report["memberships[0].factr"]
    assert "share_weight" in report["memberships[0].factr"]
    assert "is an unknown key" in problems(colour="red")["colour"]


def test_every_problem_is_named_at_once():
    report = problems(
        currency="XXX",
        tax_rate="2",
        rates=[{"id": "Bad Id", "per_second": "-1", "resolution": "4K", "mode": "t2w", "audio": "yes", "model": "a*b"}],
        memberships=[membership("free", concurrency=0, share_weight="1", retention_days=True)],
    )
    assert set(report) >= {
        "currency",
        "tax_rate",
        "rates[0].id",
        "rates[0].per_second",
        "rates[0].resolution",
        "rates[0].mode",
        "rates[0].audio",
        "rates[0].model",
        "memberships[0].concurrency",
        "memberships[0].share_weight",
        "memberships[0].retention_days",
    }
    assert f"{', '.join(RESOLUTIONS)}, *" in report["rates[0].resolution"]
    assert "a whole number from 1 to 1000" in report["memberships[0].concurrency"]
    assert "CNY" in report["currency"]


@pytest.mark.parametrize("key", ["format", "name", "title", "rates", "memberships", "service_tiers", "examples"])
def test_missing_parts_are_named(key):
    content = book_content()
    del content[key]
    with pytest.raises(BookError) as caught:
        PriceBook.from_content(content)
    assert any(problem.path.startswith(key) and "missing" in problem.message for problem in caught.value.problems)


@pytest.mark.parametrize("value", [[], "x", 3, [1], {"a": 1}, None])
def test_wrong_shapes_are_problems_and_never_crashes(value):
    for key in book_content():
        if (key, value) == ("title", None):
            continue
        with pytest.raises(BookError):
            PriceBook.from_content(book_content(**{key: value, "format": 2}))


def test_what_is_not_toml_or_of_another_format_is_refused():
    assert "not valid TOML" in validate("rates = [")[0].message
    assert "format" in problems(format=2)


def test_references_must_be_met():
    assert "falls back" in problems(memberships=[membership("member")])["memberships"]
    assert "factor of 1" in problems(service_tiers=[tier("standard", "0.9")])["service_tiers"]
    report = problems(promotions=[promotion("p", "0.5", memberships=["gold"], service_tiers=["turbo"])])
    assert "'gold' is not in this book" in report["promotions[0].memberships"]
    assert "'turbo' is not in this book" in report["promotions[0].service_tiers"]


def test_two_rates_with_one_pattern_or_one_id_are_refused():
    rates = [{"id": "a", "per_second": "1"}, {"id": "b", "per_second": "2"}]
    assert "'a' matches" in problems(rates=rates)["rates[1]"]
    assert "used twice" in problems(memberships=[membership("free"), membership("free")])["memberships[1].id"]


def test_a_discount_is_a_factor_of_at_most_one():
    assert "promotions[0].factor" in problems(promotions=[promotion("p", "1.01")])
    assert "memberships[0].factor" in problems(memberships=[membership("free", "1.5")])


def test_a_tier_whose_line_may_drop_never_makes_it_cheaper():
    tiers = [tier("standard", "1"), tier("odd", "0.9", start_within_minutes=5)]
    assert "must not raise a price" in problems(service_tiers=tiers)["service_tiers[1].start_within_minutes"]


def test_windows_need_an_offset_and_an_order():
    naive = promotion("p", "0.5", starts_at=datetime(2026, 1, 1))
    assert "offset" in problems(promotions=[naive])["promotions[0].starts_at"]
    empty = promotion("p", "0.5", starts_at=AT, ends_at=AT)
    assert "after starts_at" in problems(promotions=[empty])["promotions[0].ends_at"]


def test_windows_are_half_open():
    starts, ends = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    some = book(promotions=[promotion("p", "0.5", starts_at=starts, ends_at=ends)])
    assert [p.id for p in some.promotions_at(starts)] == ["p"]
    assert some.promotions_at(ends) == ()
    with pytest.raises(ValueError, match="offset"):
        some.promotions_at(datetime(2026, 1, 1))


def test_the_most_specific_rate_wins_whatever_the_order():
    rates = [
        {"id": "all", "per_second": "1"},
        {"id": "turbo", "model": "*-turbo", "per_second": "2"},
        {"id": "wan", "model": "wan2.2-*", "per_second": "3"},
        {"id": "demo", "model": "demo", "per_second": "4"},
        {"id": "prefix", "model": "ab-*", "per_second": "8"},
        {"id": "suffix", "model": "*-yz", "per_second": "9"},
        {"id": "demo-720", "model": "demo", "resolution": "720P", "per_second": "5"},
        {"id": "all-loud", "audio": True, "per_second": "6"},
        {"id": "all-i2v", "mode": "i2v", "per_second": "7"},
    ]
    for order in (rates, rates[::-1]):
        some = book(rates=order)

        def rate_id(model, resolution="480P", mode="t2v", audio=False, some=some):
            return some.rate_for(RateKey(model, resolution, mode, audio)).id

        assert rate_id("other") == "all"
        assert rate_id("other", audio=True) == "all-loud"
        assert rate_id("other", mode="i2v", audio=True) == "all-i2v"
        assert rate_id("x-turbo") == "turbo"
        assert rate_id("wan2.2-turbo") == "wan"
        assert rate_id("ab-yz") == "prefix"
        assert rate_id("demo") == "demo"
        assert rate_id("demo", "720P", audio=True) == "demo-720"


def test_what_no_rate_matches_is_refused_and_never_free():
    some = book(rates=[{"id": "only", "model": "demo", "resolution": "720P", "per_second": "1"}])
    for key in [("other", "720P", "t2v"), ("demo", "480P", "t2v"), ("demo", "720P", "edit")]:
        with pytest.raises(PriceError) as caught:
            some.rate_for(RateKey(*key))
        assert caught.value.code == "no_rate"
        assert caught.value.facts["model"] == key[0]


def test_unknown_memberships_and_tiers_are_refused_with_the_known():
    for call, code in ((DEFAULT.membership, "unknown_membership"), (DEFAULT.tier, "unknown_service_tier")):
        with pytest.raises(PriceError) as caught:
            call("gold")
        assert caught.value.code == code
        assert caught.value.facts["allowed"]


def test_a_failing_example_is_reported_with_its_result():
    wrong = DEFAULT_TEXT.replace('total = "4.39"', 'total = "4.40"', 1)
    report = validate(wrong)
    assert [problem.path for problem in report] == ["examples[3]"]
    assert "expects 4.40 CNY, but the rules give 4.39 CNY" in report[0].message
    lonely = book(rates=[{"id": "only", "model": "other", "per_second": "1"}])
    assert "no rate" in check_examples(lonely)[0].outcome


def test_a_contract_is_read_as_strictly():
    text = """
        format = 1
        name = "acme-2026"
        title = { en = "Acme agreement", zh = "艾克米协议" }
        currency = "CNY"
        based_on = "acme-2025"
        promotions_apply = false
        starts_at = 2026-01-01T00:00:00+08:00
        [[rates]]
        id = "hd"
        resolution = "720P"
        per_second = "0.50"
    """
    agreement = parse_contract(text)
    assert agreement.membership_applies
    assert not agreement.promotions_apply
    assert Contract.from_content(agreement.content()) == agreement
    assert agreement.content_hash == parse_contract(text.replace('"0.50"', '"0.5"')).content_hash
    with pytest.raises(BookError, match="bare number"):
        parse_contract(text.replace('"0.50"', "0.50"))
    with pytest.raises(BookError, match="unknown key"):
        parse_contract(text.replace("based_on", "base"))
    assert contract().content_hash != agreement.content_hash


def test_the_command_checks_files(tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(DEFAULT_TEXT, encoding="utf-8")
    bad.write_text(DEFAULT_TEXT.replace('"0.90"', "0.90"), encoding="utf-8")

    def run(*arguments):
        command = [sys.executable, "-m", "pricing", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run(good).returncode == 0
    assert DEFAULT.content_hash in run(good).stdout
    assert run(good, bad).returncode == 1
    assert "bare number" in run(bad).stderr
    assert run().returncode == 2
