"""Films that were delivered without marks get a file with marks, and money, links and other films notice nothing."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import threading
import wave
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from app.accounts.caller import Caller
from app.accounts.keys import authenticate
from app.audit_log.actor import Actor
from app.cli.main import app
from app.db import transaction
from app.dispatch.retention import unreferenced_films
from app.erasure import account_steps
from app.erasure.account_steps import ACCOUNT_STEPS
from app.errors import AppError
from app.jobs.backfill import FIRST_FILE_STAYS, count_unmarked
from app.jobs.film_reuse import job_of_film
from app.jobs.links import make_link
from app.jobs.shot_progress import shot_clip
from app.jobs.tables import Job
from app.provenance.aigc import read_label
from app.provenance.backfill_tables import BackfillClaim, FilmSuccessor
from app.provenance.blocked_tables import BlockedFile
from app.provenance.manifest import FilmOrigin, read_manifest
from app.provenance.mp4_tags import read_tags
from app.provenance.registry_tables import RegistryFilm
from app.provenance.signing import signing_identity
from app.reports.audit import audit_books
from app.reports.replay import replay_job
from app.reports.seals import day_digest
from app.roles import Role
from app.settings import child_environment, get_settings
from app.storage import get_storage
from app.takedowns.decide import find_copies, remove_films
from app.takedowns.reports import ReportForm, submit_report
from tests.api_client import World
from tests.app.provenance.marked_films import silence_verifier, verdict
from tests.app.provenance.signing_keys import write_key
from tests.contracts.storage_servers import rclone
from workers import backfill_film as steps
from workers.backfill import BackfillOptions, BackfillReport, run_backfill
from workers.film.copy_streams import packets_digest

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
OPERATOR = Actor("member_operator", "page", frozenset({Role.OPERATOR}))


@pytest.fixture(autouse=True)
def _home_of_the_verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silence_verifier(monkeypatch, tmp_path)


def unsigned(film: Path, out: Path, origin: FilmOrigin) -> None:
    shutil.copy(film, out)


@pytest.fixture
def old_films(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A function that makes films as they were before there were marks, one for each order, and returns their ids."""

    def made(*orders: dict[str, Any], path: str = "/v1/videos") -> list[str]:
        film_ids = [str(world.post(path, ORDER | order).json()["id"]) for order in orders]
        with transaction() as session:
            session.execute(update(Job).where(Job.id.in_(film_ids)).values(mark_id=None))
        with monkeypatch.context() as before:
            before.setattr("workers.finish_take.sign", unsigned)
            before.setattr("workers.finish_take.metadata", lambda film_id: {})
            before.setattr("workers.finish_take.check_marks", lambda film, film_id: None)
            world.work()
        with transaction() as session:
            rows = update(RegistryFilm).where(RegistryFilm.film_id.in_(film_ids))
            # What the migration knew of them.
            session.execute(rows.values(model_version="", frame_hashes=b"", hash_parts=[]))
        return film_ids

    return made


def run(**options: Any) -> BackfillReport:
    return run_backfill(BackfillOptions(**{"per_minute": 1e6, **options}), threading.Event())


def content(world: World, film_id: str, **headers: str) -> Any:
    return world.get(f"/v1/videos/{film_id}/content", headers={k.replace("_", "-"): v for k, v in headers.items()})


def film_file(world: World, film_id: str, folder: Path, name: str) -> Path:
    (folder / name).write_bytes(content(world, film_id).content)
    return folder / name


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def audited() -> list[Any]:
    with transaction() as session:
        return audit_books(session)


def verify(world: World, data: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = world.app.post("/v1/verify", files={"file": ("a.mp4", data, "video/mp4")}).json()
    return answer


def test_an_old_film_gets_both_marks_and_its_frames_sound_receipt_and_money_stay(
    world: World, old_films: Callable[..., list[str]], tmp_path: Path
) -> None:
    sound = world.post("/v1/assets", files={"file": ("a.wav", tone(), "audio/wav")}).json()["id"]
    (film_id,) = old_films({"audio": sound})
    first = film_file(world, film_id, tmp_path, "first.mp4")
    before = {path: world.get(path).text for path in (f"/v1/videos/{film_id}/receipt", "/v1/wallet", "/v1/receipts")}
    body = world.get(f"/v1/videos/{film_id}").json()
    assert audited() == []
    expected = run(dry_run=True)
    assert (expected.marked, expected.bytes) == (1, first.stat().st_size)
    assert content(world, film_id).content == first.read_bytes()

    report = run()
    assert (report.films, report.marked, report.kept, report.skipped) == (1, 1, 0, {})
    film = film_file(world, film_id, tmp_path, "film.mp4")
    assert packets_digest(film) == packets_digest(first), "frames and sound are copied as they are"
    judged = verdict(film, chain=signing_identity().chain)
    assert (judged["integrity"], judged["validation_results"]["failure"]) == ("valid", [])
    label = read_label(read_tags(film))
    assert (label.state, label.content_id) == ("found", film_id)
    manifest = read_manifest(film, "video/mp4")
    assert (manifest.film_id, manifest.ingredients) == (film_id, (sound,))
    assert b"marked_at" in film.read_bytes()
    assert b"model_version" in film.read_bytes()

    after = {path: world.get(path).text for path in before}
    assert after == before
    assert world.get(f"/v1/videos/{film_id}").json() == body
    with transaction() as session:
        replayed, difference = replay_job(session, film_id)
        row = session.get_one(RegistryFilm, film_id)
        assert (row.sha256, row.mark_id, row.model_version) == (sha256(film.read_bytes()), None, "")
        assert row.frame_hashes, "it is found by its looks from now on"
    assert (difference, sha256(first.read_bytes()) in replayed.decode()) == (None, True)
    assert audited() == []
    for file in (first, film):
        marks = verify(world, file.read_bytes())
        assert (marks["marks"]["registry"], marks["marks"]["watermark"]) == ("found", "absent")
        assert film_id in marks["ids"]
    assert world.get(f"/v1/videos/{film_id}/content?variant=waveform").status_code == 200
    with transaction() as session, pytest.raises(AppError, match="no clip"):
        shot_clip(session, session.get_one(Job, film_id), 0, 0)
    assert run() == BackfillReport(), "nothing is left to do"


def tone() -> bytes:
    """Two seconds of a tone."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", "NONE"))
        file.writeframes((np.sin(np.arange(96_000) / 20) * 8000).astype("<i2").tobytes())
    return data.getvalue()


def test_the_audit_and_sealed_months_accept_the_recorded_successor_and_no_other(
    world: World, old_films: Callable[..., list[str]]
) -> None:
    (film_id,) = old_films({})
    with transaction() as session:
        ended_at = session.get_one(Job, film_id).finished_at
        assert ended_at is not None
        day = ended_at.replace(hour=0, minute=0, second=0, microsecond=0)
        sealed = day_digest(session, day)
    run()
    with transaction() as session:
        assert day_digest(session, day) == sealed
        session.execute(text("UPDATE jobs SET film = jsonb_set(film, '{bytes}', '1')"))
        assert day_digest(session, day) != sealed
        session.rollback()
    assert audited() == []
    bends = {
        "UPDATE jobs SET film = jsonb_set(film, '{sha256}', '\"%s\"')" % ("a" * 64): "receipt_replays",
        "UPDATE jobs SET film_key = film_key || 'x'": "marked_film_is_its_successor",
        "UPDATE jobs SET film = jsonb_set(film, '{frames}', '9')": "receipt_replays",
        "UPDATE registry_films SET sha256 = 'a'": "registry_knows_the_stored_film",
        "UPDATE backfill_claims SET state = 'skipped'": "marked_film_is_its_successor",
        "UPDATE backfill_claims SET new_key = new_key || 'x'": "marked_film_is_its_successor",
    }
    for bend, rule in bends.items():
        with transaction() as session:
            session.execute(text(bend))
            assert rule in {finding.rule for finding in audit_books(session)}, bend
            session.rollback()
    with pytest.raises(IntegrityError, match="receipt replays"), transaction() as session:
        session.execute(text("UPDATE film_successors SET new_sha256 = 'a'"))


def test_a_download_meets_one_file_and_the_first_one_goes_when_links_have_ended(
    world: World, old_films: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (film_id,) = old_films({})
    with transaction() as session:
        link = make_link(session, session.get_one(Job, film_id)).partition("/files/")[2]
    begun = content(world, film_id, range="bytes=0-99")
    whole = content(world, film_id)
    assert begun.headers["etag"] == whole.headers["etag"]
    assert content(world, film_id, if_none_match=whole.headers["etag"]).status_code == 304
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", "2")
    get_settings.cache_clear()
    run()
    # A link goes on with the file for which it was made; a key gets the new one whole.
    rest = world.app.get(f"/files/{link}", headers={"range": "bytes=100-"})
    assert begun.content + rest.content == whole.content
    later = content(world, film_id, range="bytes=100-", if_range=whole.headers["etag"])
    assert (later.status_code, later.headers["etag"] != whole.headers["etag"]) == (200, True)
    again = content(world, film_id, range="bytes=100-", if_range=later.headers["etag"])
    assert (again.status_code, again.content) == (206, later.content[100:])
    with transaction() as session:
        successor = session.get_one(FilmSuccessor, film_id)
        old_key, new_key = successor.old_key, successor.new_key

    def sweep(seconds: float) -> set[str]:
        monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(int(seconds)))
        get_settings.cache_clear()
        unreferenced_films(f"films/{film_id}")
        return {stat.key for stat in get_storage().list(f"films/{film_id}/")}

    all_keys = sweep(86_400)
    assert {old_key, new_key} <= all_keys, "links are open"
    assert sweep(FIRST_FILE_STAYS.total_seconds() + 60) == all_keys - {old_key}, "with its poster and its sprites"
    assert content(world, film_id).content == later.content
    assert audited() == []


@pytest.mark.deep
def test_urls_of_the_store_go_on_with_the_file_for_which_they_were_made(
    world: World, old_films: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rclone(tmp_path / "store") as server:
        monkeypatch.setenv("CINEMETER_STORAGE_URL", f"s3://films/main?endpoint={server.endpoint}")
        monkeypatch.setenv("CINEMETER_S3_ACCESS_KEY", server.access_key)
        monkeypatch.setenv("CINEMETER_S3_SECRET_KEY", server.secret_key)
        get_settings.cache_clear()
        (film_id,) = old_films({})

        def url_of(path: str) -> str:
            headers = {"Authorization": f"Bearer {world.alice}"}
            answer = world.app.get(path, headers=headers, follow_redirects=False)
            assert answer.status_code == 302, answer.text
            return str(answer.headers["location"])

        with transaction() as session:
            link = "/files/" + make_link(session, session.get_one(Job, film_id)).partition("/files/")[2]
        url = url_of(f"/v1/videos/{film_id}/content")
        first = httpx.get(url).content
        monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", "2")
        get_settings.cache_clear()
        assert run().marked == 1
        assert httpx.get(url).content == httpx.get(url_of(link)).content == first
        marked = httpx.get(url_of(f"/v1/videos/{film_id}/content")).content
        (tmp_path / "marked.mp4").write_bytes(marked)
        assert read_manifest(tmp_path / "marked.mp4", "video/mp4").film_id == film_id
        assert audited() == []


def test_films_that_are_gone_changed_or_broken_are_listed_and_left_as_they_are(
    world: World, old_films: Callable[..., list[str]], tmp_path: Path
) -> None:
    gone, changed, broken, whole = old_films({}, {"seed": 1}, {"seed": 2}, {"seed": 4})
    storage = get_storage()
    with transaction() as session:
        jobs = {film_id: session.get_one(Job, film_id) for film_id in (gone, changed, broken)}
        keys = {film_id: str(job.film_key) for film_id, job in jobs.items()}
    storage.delete(keys[gone])
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"no film at all")
    storage.put_file(keys[changed], rubbish, "video/mp4")
    storage.put_file(keys[broken], rubbish, "video/mp4")
    with transaction() as session:
        job = session.get_one(Job, broken)
        job.film = {**(job.film or {}), "sha256": sha256(b"no film at all")}
    assert run(dry_run=True).skipped == {gone: "its file is not in storage"}
    report = run()
    assert (report.marked, set(report.skipped)) == (1, {gone, changed, broken})
    assert report.skipped[gone] == "its file is not in storage"
    assert report.skipped[changed] == "its file is not the one that was delivered"
    assert "cannot be read as a film" in report.skipped[broken]
    assert run() == BackfillReport()
    assert set(run(again=True).skipped) == {gone, changed, broken}
    with transaction() as session:
        assert [session.get_one(Job, film_id).film_key for film_id in keys] == list(keys.values())
        assert list(session.scalars(select(FilmSuccessor.film_id))) == [whole]


STEPS = ("copy_with_tags", "sign", "check_marks")


class Killed(BaseException):
    """The process ends here, with nothing cleaned up."""


@pytest.mark.parametrize("step", [*(pytest.param(name, marks=pytest.mark.deep) for name in STEPS), "replace_file"])
def test_a_crash_at_any_step_loses_nothing_and_the_next_backfill_goes_on(
    world: World, old_films: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (film_id,) = old_films({})
    first = content(world, film_id).content
    usual, calls = getattr(steps, step), []

    def killed(*arguments: Any, **options: Any) -> Any:
        calls.append(step)
        # `check_marks` looks first whether there are marks already.
        if step == "check_marks" and len(calls) == 1:
            return usual(*arguments, **options)
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(steps, step, killed)
        with pytest.raises(Killed):
            run()
    assert content(world, film_id).content == first
    assert audited() == []
    assert run() == BackfillReport(), "its lease is not over"
    with transaction() as session:
        session.execute(text("UPDATE backfill_claims SET lease_until = now() - interval '1 second'"))
    assert run().marked == 1
    unreferenced_films(f"films/{film_id}")
    with transaction() as session:
        successor = session.get_one(FilmSuccessor, film_id)
    films = {stat.key for stat in get_storage().list(f"films/{film_id}/") if stat.key.endswith(".mp4")}
    assert films == {successor.old_key, successor.new_key}
    assert audited() == []


def test_two_backfills_mark_each_film_once(
    world: World, old_films: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    film_ids = old_films({}, {"seed": 1}, {"seed": 2})
    usual = steps.copy_with_tags
    others: list[BackfillReport] = []

    def while_another_runs(*arguments: Any) -> None:
        if not others:
            others.append(BackfillReport())
            thread = threading.Thread(target=lambda: others.append(run()))
            thread.start()
            thread.join()
        usual(*arguments)

    monkeypatch.setattr(steps, "copy_with_tags", while_another_runs)
    mine = run()
    assert (mine.marked, mine.taken, others[1].marked) == (1, 2, 2)
    with transaction() as session:
        assert sorted(session.scalars(select(FilmSuccessor.film_id))) == sorted(film_ids)
    assert audited() == []


@pytest.mark.deep
def test_what_a_running_backfill_has_stored_is_no_orphan(
    world: World, old_films: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (film_id,) = old_films({})
    usual = steps.replace_file

    def after_a_sweep(*arguments: Any, **options: Any) -> bool:
        threading.Thread(target=lambda: removed.append(unreferenced_films(f"films/{film_id}"))).run()
        return usual(*arguments, **options)

    removed: list[int] = []
    monkeypatch.setattr(steps, "replace_file", after_a_sweep)
    assert (run().marked, removed) == (1, [0])
    assert content(world, film_id).status_code == 200


@pytest.mark.deep
def test_a_film_that_is_removed_meanwhile_stays_removed(
    world: World, old_films: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (film_id,) = old_films({})
    usual = steps.check_marks

    def removed(film: Path, own_id: str) -> None:
        usual(film, own_id)
        world.delete(f"/v1/videos/{film_id}")

    monkeypatch.setattr(steps, "check_marks", removed)
    report = run()
    assert (report.marked, report.taken) == (0, 1)
    with transaction() as session:
        assert session.scalars(select(FilmSuccessor)).all() == []
        assert session.get_one(Job, film_id).film_key == f"{next(iter(prefixes(film_id)))}film.mp4"


def test_a_film_that_is_erased_meanwhile_leaves_no_file(
    world: World, old_films: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backfill goes on right after the erasure has deleted the files."""
    (film_id,) = old_films({})
    signing, purged = threading.Event(), threading.Event()
    usual, storage = steps.sign, get_storage()

    def wait_for_purge(*arguments: Any) -> None:
        signing.set()
        purged.wait(30)
        usual(*arguments)

    def purge(prefix: str) -> int:
        removed = storage.purge(prefix)
        if prefix.startswith("quarantine/"):
            purged.set()
            backfill.join(30)
        return removed

    monkeypatch.setattr(steps, "sign", wait_for_purge)
    monkeypatch.setattr(account_steps, "get_storage", lambda: SimpleNamespace(purge=purge))
    backfill = threading.Thread(target=run)
    backfill.start()
    assert signing.wait(30)
    list(ACCOUNT_STEPS["films"](world.alice_id, "erasure_1"))
    assert not backfill.is_alive()
    assert list(storage.list(f"films/{film_id}/")) == []
    with transaction() as session:
        claim = session.get_one(BackfillClaim, film_id)
        assert (claim.state, claim.reason) == ("skipped", "erased")


def prefixes(film_id: str) -> set[str]:
    return {stat.key.rpartition("/")[0] + "/" for stat in get_storage().list(f"films/{film_id}/")}


@pytest.mark.deep
def test_a_certificate_of_no_use_ends_the_backfill_and_changes_nothing(
    world: World, old_films: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_films({})
    key = write_key(tmp_path / "key.pem", [ExtendedKeyUsageOID.SERVER_AUTH])
    monkeypatch.setenv("CINEMETER_SIGNING_KEY", str(key))
    get_settings.cache_clear()
    report = run()
    assert (report.marked, "cannot sign films" in report.problem) == (0, True)
    with transaction() as session:
        assert session.scalars(select(BackfillClaim)).all() == []
    write_key(key, [ExtendedKeyUsageOID.EMAIL_PROTECTION])
    assert run().marked == 1


def test_films_with_marks_are_kept_and_wrong_numbers_of_watermarks_corrected(world: World) -> None:
    """A worker of the version before the registry, and one before watermarks, while a release was rolled out."""
    marked = str(world.post("/v1/videos", ORDER).json()["id"])
    plain = str(world.post("/v1/videos", ORDER | {"seed": 1}).json()["id"])
    with transaction() as session:
        session.execute(update(Job).where(Job.id == plain).values(mark_id=None))
    world.work()
    with transaction() as session:
        session.execute(update(RegistryFilm).values(model_version="", frame_hashes=b"", hash_parts=[]))
        session.execute(update(RegistryFilm).where(RegistryFilm.film_id == plain).values(mark_id=77))
        number = session.get_one(RegistryFilm, marked).mark_id
    data = content(world, marked).content
    report = run()
    assert (report.kept, report.marked) == (2, 0)
    assert content(world, marked).content == data
    with transaction() as session:
        assert number is not None
        assert [session.get_one(RegistryFilm, each).mark_id for each in (marked, plain)] == [number, None]
        assert all(session.scalars(select(RegistryFilm.frame_hashes)))
    assert audited() == []


def test_a_removed_film_is_blocked_by_both_of_its_files(world: World, old_films: Callable[..., list[str]]) -> None:
    # The same order twice: without marks, the files are the same.
    film_id, twin = old_films({"seed": 1}, {"seed": 1})
    first = content(world, film_id).content
    assert content(world, twin).content == first
    run(limit=1)
    with transaction() as session:
        assert count_unmarked(session)[0] == 1
        done = session.scalars(select(FilmSuccessor.film_id)).one()
        other = twin if done == film_id else film_id
        assert (find_copies(session, done), find_copies(session, other)) == ([other], [done])
    last = content(world, done).content
    form = ReportForm("copyright", done, "It is mine.", "Chen Wei", "chen@example.com", is_truthful=True)
    with transaction() as session:
        report_id = submit_report(session, form).id
    with transaction() as session:
        remove_films(session, OPERATOR, report_id, [done], reason="copyright")
    for data in (first, last):
        answer = world.post("/v1/assets", files={"file": ("a.mp4", data, "video/mp4")}, key=world.bob)
        assert answer.json()["code"] == "asset_refused", answer.text
    with transaction() as session:
        assert set(session.scalars(select(BlockedFile.sha256))) == {sha256(first), sha256(last)}


def test_films_made_from_an_old_one_find_it_before_and_after(
    world: World, old_films: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (film_id,) = old_films({"seconds": 2})
    first = content(world, film_id).content
    waiting = world.post("/v1/videos/extensions", {"video": {"id": film_id}, "prompt": "on", "seconds": 1}).json()
    assert "id" in waiting, waiting
    run()
    later = content(world, film_id).content
    with transaction() as session:
        get_storage().delete(session.get_one(FilmSuccessor, film_id).old_key)
    world.work()
    video = world.get(f"/v1/videos/{waiting['id']}").json()
    assert (video["status"], video["seconds"]) == ("completed", "3"), video
    retaken = world.post(f"/v1/videos/{waiting['id']}/retakes", {"shot": 1, "prompt": "off"})
    assert retaken.status_code == 200, retaken.text
    caller = caller_of(world)
    for data in (first, later):
        with transaction() as session:
            job = job_of_film(session, caller, io.BytesIO(data))
            assert job is not None
            assert job.id == film_id
    world.work()
    assert world.get(f"/v1/videos/{retaken.json()['id']}").json()["status"] == "completed"
    assert audited() == []


def caller_of(world: World) -> Caller:
    with transaction() as session:
        return authenticate(session, world.alice)


@pytest.mark.deep
def test_the_command_prints_its_result_as_json_and_stops_after_a_film(
    world: World, old_films: Callable[..., list[str]], tmp_path: Path
) -> None:
    film_ids = old_films({}, {"seed": 1})
    command = [sys.executable, "-m", "app.cli.main", "provenance", "backfill", "--json", "--per-minute", "1e6"]
    command += ["--limit", "1", "--home", str(tmp_path / "home")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=child_environment())
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert (report["films"], report["marked"], report["skipped"], report["stopped"]) == (2, 1, [], False)
    help_text = CliRunner().invoke(app, ["provenance", "backfill", "--help"]).stdout
    assert "--dry-run" in help_text
    stop = threading.Event()
    stop.set()
    assert run_backfill(BackfillOptions(), stop).marked == 0
    assert run().marked == len(film_ids) - 1
