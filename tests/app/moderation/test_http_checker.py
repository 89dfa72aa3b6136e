"""The client of a moderation server, its nonsense, and policies that stop the start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.moderation.http_checker import CALL_PIECES_MAX, PIECE_MAX, HttpChecker
from app.moderation.outcomes import CheckFailed
from app.moderation.policy import HttpPolicy, moderation_policy
from app.settings import get_settings
from tests.app.moderation.servers import ModerationServer, moderation_server


@pytest.fixture(scope="module")
def server() -> Iterator[ModerationServer]:
    with moderation_server() as running:
        yield running


def checker(server: ModerationServer, path: str) -> HttpChecker:
    return HttpChecker(HttpPolicy(url=server.url(path), timeout_seconds=10))


@pytest.mark.parametrize("path", ["/deep", "/overflow", "/nul", "/surrogate"])
def test_nonsense_is_a_failed_check(server: ModerationServer, path: str) -> None:
    with pytest.raises(CheckFailed, match="bad_answer"):
        checker(server, path).check("rain")


def test_long_orders_are_sent_in_pieces_and_every_result_counts(server: ModerationServer) -> None:
    text = "word " * (PIECE_MAX * (CALL_PIECES_MAX + 1) // 5) + "end"
    server.requests.clear()
    finding, model = checker(server, "/last").check(text)
    assert finding is not None
    assert (finding.category, model) == ("violence/graphic", "moderator-1")
    inputs = [content["input"] for _, content in server.requests]
    pieces = [piece for each in inputs for piece in (each if isinstance(each, list) else [each])]
    assert len(inputs) == 2
    assert max(map(len, pieces)) <= PIECE_MAX
    assert sum(map(len, pieces)) == len(text)
    with pytest.raises(CheckFailed, match="bad_answer"):
        checker(server, "/few").check(text)


def test_a_status_that_the_operator_must_mend_is_an_error(
    server: ModerationServer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CheckFailed, match="status_401"):
        checker(server, "/denied").check("rain")
    assert [record.levelname for record in caplog.records if "status 401" in record.message] == ["ERROR"]


def test_the_egress_proxy_is_used(server: ModerationServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_EGRESS_PROXY", "http://127.0.0.1:1")
    get_settings.cache_clear()
    try:
        with pytest.raises(CheckFailed, match="proxy_failed"):
            checker(server, "/clean").check("rain")
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()


@pytest.mark.parametrize(
    "content",
    [
        "", "[http]\nurl = 'http://'", "[http]\nurl = 'http://name:secret@host/'", "[http]\nurl = 'http://host:99999/'",
        "[http]\nurl = 'http://host/'\ntimeout_seconds = 0.01", "[http]\nurl = 'http://host/'\nkey = ['secret']",
        "[http]\nurl = 'http://host/'\napi_key = 'secret'", "[http]\nkey = 'secret", "[htpp]\nurl = 'secret'",
    ],
)  # fmt: skip
def test_a_policy_that_is_none_stops_the_start_and_shows_no_key(
    content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(content)
    monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
    get_settings.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="CINEMETER_MODERATION_POLICY") as raised:
            moderation_policy()
        assert "secret" not in str(raised.value)
        assert raised.value.__cause__ is None
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
