"""What looks like a removed film is left to a moderator, or refused where there is no policy of moderation."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest
from sqlalchemy import select, update

from app.accounts.tables import Account
from app.clock import now
from app.db import transaction
from app.jobs.quarantine_tables import QuarantinedFilm
from app.jobs.review import POLICY_ACTOR, decide_review, open_review_of
from app.moderation.outcomes import CheckFailed, Decision
from app.moderation.policy import ModerationPolicy
from app.moderation.removed_looks import RemovedLooks
from app.moderation.tables import ModerationOutcome
from app.provenance.blocked_looks import find_blocked_look
from app.provenance.blocked_tables import BlockedFile
from app.provenance.registry_tables import RegistryFilm
from app.reports.audit import audit_books
from app.settings import get_settings
from tests.api_client import World
from tests.app.moderation.test_orders import counts, wallets
from tests.app.takedowns.test_blocked_files import ORDER, UNLIKE, film_of, remove, submit

pytestmark = pytest.mark.xdist_group("service")

CATEGORY = "removed_lookalike"


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Return what sets the policy of moderation of this process."""
    files = iter(range(10))

    def write(content: str) -> None:
        file = tmp_path / f"policy-{next(files)}.toml"
        file.write_text(content)
        monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
        get_settings.cache_clear()

    yield write
    get_settings.cache_clear()


def frame_of(film: bytes) -> bytes:
    """A frame of a film as somebody would keep it: smaller, and as a JPEG of middling quality."""
    with av.open(io.BytesIO(film)) as container:
        image = next(container.decode(video=0)).to_image()
    content = io.BytesIO()
    image.resize((image.width * 2 // 3, image.height * 2 // 3)).save(content, "JPEG", quality=60)
    return content.getvalue()


def upload(world: World, content: bytes) -> str:
    return str(world.post("/v1/assets", files={"file": ("a.jpg", content, "image/jpeg")}).json()["id"])


def removed_film(world: World) -> tuple[str, bytes]:
    video, film = film_of(world)
    remove(submit(video), video)
    return video, film


def stage_of(world: World, job_id: str) -> str:
    return str(world.get(f"/v1/videos/{job_id}").json()["stage"])


def allow(job_id: str) -> ModerationOutcome:
    with transaction() as session:
        review = open_review_of(session, job_id)
        assert review is not None
        return decide_review(session, POLICY_ACTOR, review.id, Decision.ALLOW, reason="It is another one.")


def test_a_moderator_decides_on_orders_and_films_with_frames_of_a_removed_one(
    world: World, policy: Callable[[str], None]
) -> None:
    policy("[review]\nhours = 24\n")
    removed, film = removed_film(world)
    unlike = film_of(world, UNLIKE)[1]
    # A picture of another film is checked and passes; the same film made again does not.
    orders = (
        {**UNLIKE, "first_frame": upload(world, frame_of(unlike))},
        {**ORDER, "first_frame": upload(world, frame_of(film))},
    )
    passed, held = (world.post("/v1/videos", order).json()["id"] for order in orders)
    assert (stage_of(world, passed), stage_of(world, held)) == ("waiting", "moderating")
    review = allow(held)
    assert (review.stage, review.category, review.rule, review.checker) == ("input", CATEGORY, removed, "removed")
    world.work()
    assert world.get(f"/v1/videos/{passed}").json()["status"] == "completed"
    assert stage_of(world, held) == "moderating"
    with transaction() as session:
        assert [row.job_id for row in session.scalars(select(QuarantinedFilm))] == [held]
    assert allow(held).stage == "output"
    world.work()
    assert world.get(f"/v1/videos/{held}").json()["status"] == "completed"
    # To strict accounts it is refused, and a policy may allow it.
    with transaction() as session:
        session.execute(update(Account).where(Account.id == world.alice_id).values(moderation_level="strict"))
    refused = world.post("/v1/videos", orders[1])
    assert (refused.status_code, refused.json()["category"]) == (422, CATEGORY), refused.text
    policy("[pictures]\nlookalikes = 'allow'\n")
    allowed = world.post("/v1/videos", orders[1]).json()["id"]
    world.work()
    assert world.get(f"/v1/videos/{allowed}").json()["status"] == "completed"


def test_without_a_policy_it_is_refused_and_costs_nothing(world: World) -> None:
    _, film = removed_film(world)
    order = {**UNLIKE, "first_frame": upload(world, frame_of(film))}
    before, wallet = counts(), wallets()
    refused = world.post("/v1/videos", order)
    assert (refused.status_code, refused.json()["code"]) == (422, "content_refused"), refused.text
    assert [refused.json()[name] for name in ("stage", "category", "field")] == ["input", CATEGORY, "first_frame"]
    assert counts() == before
    job_id = world.post("/v1/videos", ORDER).json()["id"]
    world.work()
    error = world.get(f"/v1/videos/{job_id}").json()["error"]
    assert error["code"] == "content_refused"
    assert CATEGORY in error["message"]
    assert wallets() == wallet
    with transaction() as session:
        assert audit_books(session) == []


def test_frames_are_alike_up_to_the_published_distance(world: World) -> None:
    """PDQ's authors advise 31 of 256 bits; films of test keys, and those that were not removed, count for nothing."""
    own = bytes(range(32))

    def differing(bits: int) -> bytes:
        return (int.from_bytes(own) ^ ((1 << bits) - 1)).to_bytes(32)

    other = bytes(byte ^ 255 for byte in own)
    with transaction() as session:
        for film_id, hashes, test in (
            ("removed", other + differing(31), False),
            ("nearer", differing(30), True),
            ("kept", own, False),
            ("featureless", b"", False),
        ):
            session.add(
                RegistryFilm(
                    film_id=film_id, account_id=None, test=test, sha256=film_id, mark_id=None, frame_hashes=hashes,
                    hash_parts=[], model="synthetic", model_version="1", reused_films=[], policy={},
                    made_at=now(session),
                )
            )  # fmt: skip
            if film_id != "kept":
                moment = now(session)
                session.add(BlockedFile(sha256=film_id, film_id=film_id, report_id="report", blocked_at=moment))
        session.flush()
        assert find_blocked_look(session, own) == "removed"
        assert find_blocked_look(session, bytes(32) + own) == "removed"
        assert find_blocked_look(session, (int.from_bytes(own) ^ (1 << 255)).to_bytes(32)) is None
        assert find_blocked_look(session, b"") is None


def test_a_frame_that_cannot_be_read_is_a_check_that_failed(tmp_path: Path) -> None:
    frame = tmp_path / "frame.jpg"
    frame.write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(CheckFailed, match="crashed"):
        RemovedLooks(ModerationPolicy(), "1").check([[frame]], tmp_path, seconds=20)
