"""The moderators' desk: what waits, the words and blurred pictures of an order, the decision, and the account."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import select, update

from app.accounts.members import add_member
from app.accounts.tables import Account, Member
from app.assets.ingest import add_asset, new_asset
from app.assets.owner import OwnerIds
from app.audit_log.tables import AuditEntry
from app.db import transaction
from app.jobs.tables import Job
from app.moderation.tables import ModerationOutcome
from app.settings import get_settings
from app.storage import get_storage
from tests.app.web.conftest import Site
from tests.app.web.test_ends import FILM, order

pytestmark = pytest.mark.xdist_group("service")

WORDS = "undress the woman"


@pytest.fixture
def desk(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A site whose rules of nudification are reviewed, with a moderator who has no other role."""
    file = tmp_path / "policy.toml"
    file.write_text("[rules]\nreview = ['nudification']\n")
    monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
    get_settings.cache_clear()
    with transaction() as session:
        member = add_member(session, site.accounts["author"], "mo@example.com", roles=("moderator",), name="Mo")
        member.password_hash = session.scalar(select(Member.password_hash).where(Member.email == "alice@example.com"))
    return site


def review() -> ModerationOutcome:
    with transaction() as session:
        query = select(ModerationOutcome).where(ModerationOutcome.outcome == "review")
        return session.scalars(query.order_by(ModerationOutcome.first_at.desc())).first()  # type: ignore[return-value]


def acts(subject: str) -> list[str]:
    with transaction() as session:
        return list(session.scalars(select(AuditEntry.act).where(AuditEntry.subject == subject)))


def add_picture(site: Site, folder: Path, job_id: str) -> None:
    """Give an order a picture, as if it had been uploaded with it."""
    file = folder / "picture.png"
    Image.new("RGB", (640, 360), "red").save(file)
    account_id = site.accounts["alice"]
    with transaction() as session:
        asset = new_asset(OwnerIds(account_id), filename="a.png")
        asset.state, asset.kind, asset.key = "ready", "picture", f"assets/{account_id}/a.png"
        asset.content_type, asset.bytes = "image/png", file.stat().st_size
        get_storage().put_file(asset.key, file, "image/png")
        job = session.get_one(Job, job_id)
        job.spec = {**job.spec, "shots": [{**job.spec["shots"][0], "first_frame": add_asset(session, asset).id}]}


def test_a_moderator_sees_an_order_and_refuses_it(desk: Site) -> None:
    alice = desk.browser("alice")
    path = order(alice, shot_prompt=WORDS)
    assert "moderating" in alice.get(path).text
    assert "waits until a moderator has decided" in alice.text()
    mo = desk.browser("mo")
    mo.get("/admin/moderation")
    listed = mo.text()
    assert all(each in listed for each in ("nudification", "Alice", "undress-person"))
    assert WORDS not in listed
    row = review()
    mo.get(path.replace("/films/", "/admin/films/"))
    assert f"/admin/moderation/{row.id}" in mo.page.text
    mo.get(f"/admin/moderation/{row.id}")
    assert WORDS in mo.text()
    assert "otherwise it is refused" in mo.text()
    assert acts(row.id) == ["review.viewed"]
    answer = mo.send(f"/admin/moderation/{row.id}/decision", {"decision": "refuse", "reason": " "})
    assert answer.status_code == 422
    assert "Say why" in mo.text()
    mo.send(f"/admin/moderation/{row.id}/decision", {"decision": "refuse", "reason": "Against the rules"})
    assert "Against the rules" in mo.text()
    assert acts(row.id)[-2:] == ["review.refused", "review.viewed"]
    again = mo.send(f"/admin/moderation/{row.id}/decision", {"decision": "allow", "reason": "No, yes"})
    assert (again.status_code, "decided already" in mo.text()) == (409, True)
    alice.get(path)
    assert "The prompt was refused (stage prompt, category nudification). Nothing is charged." in alice.text()
    mo.get("/admin/moderation")
    assert "No order waits." in mo.text()
    assert "Mo" in mo.text()


def test_an_allowed_order_is_made_and_the_history_of_its_account_is_shown(desk: Site) -> None:
    alice = desk.browser("alice")
    path = order(alice, shot_prompt=WORDS)
    first = review()
    mo = desk.browser("mo")
    mo.get("/admin/inbox")
    assert "An order waits for a moderator: nudification." in mo.text()
    assert re.search(r'/admin/moderation"[^>]*>Moderation <span class="badge">1', mo.page.text)  # type: ignore[union-attr]
    mo.get(f"/admin/moderation/{first.id}")
    mo.send(f"/admin/moderation/{first.id}/decision", {"decision": "allow", "reason": "A sauna advert"})
    desk.work()
    assert "completed" in alice.get(path).text
    order(alice, shot_prompt=WORDS)
    mo.get(f"/admin/moderation/{review().id}")
    assert "1 allowed by decisions" in mo.text()
    assert f"/admin/moderation/{first.id}" in mo.page.text  # type: ignore[union-attr]


def test_orders_of_the_same_words_are_decided_together_without_scripts(desk: Site) -> None:
    alice = desk.browser("alice")
    for _ in range(3):
        order(alice, shot_prompt=WORDS)
    order(alice, shot_prompt="undress the man")
    with transaction() as session:
        rows = session.scalars(
            select(ModerationOutcome).order_by(ModerationOutcome.first_at, ModerationOutcome.id)
        ).all()
    *films, other = [row.id for row in rows]
    assert len(films) == 3
    first, mo = films[0], desk.browser("mo")
    page = mo.get(f"/admin/moderation/{first}").text
    # They have the same words, so they are chosen; the other order is not offered.
    offered = re.findall(r'name="also" value="([^"]+)"( checked)?', page)
    assert offered == [(each, " checked") for each in films[1:]]
    # Finished films differ, whatever their words are: nothing is chosen in advance.
    for stage, is_chosen in (("output", False), ("prompt", True)):
        with transaction() as session:
            session.execute(update(ModerationOutcome).where(ModerationOutcome.id.in_(films)).values(stage=stage))
        page = mo.get(f"/admin/moderation/{first}").text
        assert page.count('name="also"') == 2
        assert ("Their films differ" in page, 'name="also" value="' + films[1] + '" checked' in page) == (
            not is_chosen, is_chosen,
        )  # fmt: skip
    decision = {"decision": "refuse", "reason": "Against the rules"}
    wrong = mo.send(f"/admin/moderation/{first}/decision", {**decision, "also": [other]})
    assert (wrong.status_code, "same words and files" in mo.text()) == (422, True)
    # Somebody else decides one of them meanwhile.
    author = desk.browser("author")
    author.get(f"/admin/moderation/{films[2]}")
    author.send(f"/admin/moderation/{films[2]}/decision", {"decision": "allow", "reason": "A sauna advert"})
    mo.send(f"/admin/moderation/{first}/decision", {**decision, "also": films[1:]})
    assert "2 orders were decided. 1 was decided before." in mo.text()
    with transaction() as session:
        decided = {row.id: row.decision for row in session.scalars(select(ModerationOutcome))}
    assert [decided[each] for each in (*films, other)] == ["refuse", "refuse", "allow", None]
    assert acts(films[1]) == ["review.refused"]


def test_pictures_are_blurred_until_somebody_asks_which_is_logged(desk: Site, tmp_path: Path) -> None:
    add_picture(desk, tmp_path, order(desk.browser("alice"), shot_prompt=WORDS).removeprefix("/films/"))
    row, mo = review(), desk.browser("mo")
    base = f"/admin/moderation/{row.id}"
    page = mo.get(base).text
    assert f'class="is-blurred" src="{base}/files/0"' in page
    blurred = mo.client.get(f"{base}/files/0")
    with Image.open(io.BytesIO(blurred.content)) as image:
        assert max(image.size) <= 12
    assert blurred.headers["cache-control"] == "private, no-store"
    mo.send(f"{base}/files/0")
    assert acts(row.id) == ["review.viewed", "review.picture_viewed"]
    [link] = re.findall(rf'src="({base}/files/0\?token=[^"]+)"', mo.page.text)  # type: ignore[union-attr]
    with Image.open(io.BytesIO(mo.client.get(link).content)) as image:
        assert image.size == (640, 360)
    # The link is one person's, and without it the picture stays blurred.
    other = desk.browser("author")
    with Image.open(io.BytesIO(other.client.get(link).content)) as image:
        assert max(image.size) <= 12
    assert mo.client.get(f"{base}/files/1").status_code == 404
    assert desk.browser("approver").client.get(f"{base}/files/0").status_code == 403


def test_a_moderator_suspends_and_an_operator_reinstates_and_sets_the_level(desk: Site) -> None:
    order(desk.browser("alice"), shot_prompt=WORDS)
    row, mo, author = review(), desk.browser("mo"), desk.browser("author")
    base, account = f"/admin/moderation/{row.id}", f"/admin/accounts/{desk.accounts['alice']}"
    mo.get(base)
    assert mo.send(f"{base}/suspension", {"reason": ""}).status_code == 422
    mo.send(f"{base}/suspension", {"reason": "Repeated attempts"})
    assert "The account is suspended: Repeated attempts" in mo.text()
    assert acts(desk.accounts["alice"]) == ["account.suspended"]
    alice = desk.browser("alice")
    alice.get("/studio")
    assert "suspended" in alice.send("/studio/orders", FILM).text
    mo.get(account)
    assert mo.send(f"{account}/reinstatement").status_code == 403
    author.get(account)
    author.send(f"{account}/reinstatement")
    author.send(f"{account}/moderation", {"moderation_level": "strict"})
    assert "The moderation level was changed." in author.text()
    assert acts(desk.accounts["alice"])[-1] == "account.moderation_changed"
    assert author.send(f"{account}/moderation", {"moderation_level": "lax"}).status_code == 422
    with transaction() as session:
        assert session.get_one(Account, desk.accounts["alice"]).moderation_level == "strict"


def test_only_moderators_and_operators_see_orders_and_decide(desk: Site) -> None:
    order(desk.browser("alice"), shot_prompt=WORDS)
    row = review()
    base = f"/admin/moderation/{row.id}"
    approver = desk.browser("approver")
    approver.get("/admin/moderation")
    assert f"{base}" not in approver.page.text  # type: ignore[union-attr]
    assert approver.get(base).status_code == 403
    approver.get("/admin/moderation")
    for path, form in (
        (f"{base}/decision", {"decision": "allow", "reason": "x"}),
        (f"{base}/suspension", {"reason": "x"}),
    ):
        assert approver.send(path, form).status_code == 403
    assert desk.browser("bob").get("/admin/moderation").status_code == 403
    author = desk.browser("author")
    assert author.get(base).status_code == 200
    assert author.get("/admin/moderation/moderation_none").status_code == 404
    assert acts(row.id) == ["review.viewed"]
