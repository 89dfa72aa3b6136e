from pricing.book import parse_book
from pricing.diff import diff, figure_text, figures
from tests.pricing.inputs import AT, DEFAULT, DEFAULT_TEXT, book, contract, membership, promotion


def test_the_same_book_has_no_differences():
    assert diff(DEFAULT, parse_book(DEFAULT_TEXT)) == ()
    assert all(figure.before == figure.after for figure in figures(DEFAULT, DEFAULT, AT))


def test_changes_are_described_in_words_and_figures():
    new = parse_book(DEFAULT_TEXT.replace('per_second = "0.90"', 'per_second = "0.80"'))
    (change,) = diff(DEFAULT, new)
    assert change.path == "rates.list-720p.per_second"
    assert (change.before, change.after, change.percent) == ("0.9", "0.8", "-11.11")
    assert change.words == "rate list-720p: per second from 0.9 to 0.8 (-11.11 %)"
    sold = figures(DEFAULT, new, AT)
    by_place = {(each.membership, each.key.resolution): each for each in sold if each.key.model == "any"}
    professional = by_place["professional", "720P"]
    assert (figure_text(professional.before), figure_text(professional.after)) == ("0.43875", "0.39")
    assert professional.percent == "-11.11"
    assert by_place["free", "1080P"].percent == "+0.00"


def test_entries_come_and_go():
    old = book(promotions=[promotion("gone", "0.5")])
    new = book(
        promotions=[promotion("fresh", "0.9", budget="5")], memberships=[membership("free"), membership("vip", "0.5")]
    )
    words = {change.path: change.words for change in diff(old, new)}
    assert words["promotions.gone"] == "promotion gone is removed"
    assert words["promotions.fresh"].startswith("promotion fresh is new: ")
    assert words["memberships.vip"].startswith("membership vip is new: ")
    assert words["memberships.professional"] == "membership professional is removed"
    sold = {figure.membership: figure for figure in figures(old, new, AT)}
    assert sold["vip"].before is None
    assert figure_text(sold["professional"].after) == "–"
    assert sold["vip"].percent is None


def test_optional_values_are_set_and_unset():
    old = book(promotions=[promotion("p", "0.5", budget="5")])
    new = book(promotions=[promotion("p", "0.5", memberships=["free"])], based_on="old")
    words = {change.path: change.words for change in diff(old, new)}
    assert words["promotions.p.budget"] == "promotion p: budget is no longer set, it was 5.00"
    assert words["promotions.p.memberships"] == "promotion p: memberships is now set: free"
    assert words["based_on"] == "based on is now set: old"


def test_contracts_are_compared_too():
    (rate, applies) = diff(contract("0.50"), contract("0.55", promotions_apply=False))
    assert rate.words == "rate agreed: per second from 0.5 to 0.55 (+10.00 %)"
    assert (applies.path, applies.before, applies.after) == ("promotions_apply", "true", "false")
