"""Signed tokens: one purpose cannot open another's, nothing can be altered, and links of older versions still work."""

from datetime import UTC, datetime, timedelta

import pytest

from app.settings import get_settings
from app.signed_tokens import InvalidToken, TokenPurpose, read_token, sign_token

EXPIRES_AT = datetime(2026, 5, 1, tzinfo=UTC)

# Recorded from the four hand-written HMAC tokens that this module replaced, signed with SECRET.
SECRET = "a secret of tests, thirty-two bytes"
LEGACY = {
    TokenPurpose.FILM: "video_0example0000000000000000000.thumbnail.1777593600.LVoflgXK4rf5T14eYf_3qr4cSVPJtqEL",
    TokenPurpose.ASSET_UPLOAD: "asset_0example0000000000000000000.1234.1777593600.hTkO_5A3e5KoiaooH6r976hUXhdNEHvL",
    TokenPurpose.NEW_PASSWORD: "mem_0example0000000000000000000-0123456789abcdef01234567.1777593600"
    ".ulF1dqQUDslZyvN7qNi2cvpNHBHUudku",
    TokenPurpose.DASHSCOPE_UPLOAD: "acct_0example0000000000000000000..test.folder_0example0000000000000000000"
    ".1777593600.AG7GzbVdWJGjEreMHfePRBxgUyi9x1G9",
}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_SECRET", SECRET)
    get_settings.cache_clear()


@pytest.mark.parametrize("purpose", TokenPurpose)
def test_a_token_returns_its_values_and_expires(purpose: TokenPurpose) -> None:
    token = read_token(purpose, sign_token(purpose, "video_1", "", expires_at=EXPIRES_AT))
    assert token.values == ("video_1", "")
    assert not token.has_expired(EXPIRES_AT - timedelta(seconds=1))
    assert token.has_expired(EXPIRES_AT)


def test_a_token_opens_nothing_of_another_purpose() -> None:
    for purpose in TokenPurpose:
        legacy = [LEGACY[purpose]] if purpose in LEGACY else []
        tokens = (sign_token(purpose, "a", expires_at=EXPIRES_AT), *legacy)
        for other in set(TokenPurpose) - {purpose}:
            for token in tokens:
                with pytest.raises(InvalidToken):
                    read_token(other, token)


def test_an_altered_token_is_invalid() -> None:
    for token in (sign_token(TokenPurpose.FILM, "video_1", "video", expires_at=EXPIRES_AT), LEGACY[TokenPurpose.FILM]):
        later = token.replace("1777593600", "1877593600")
        unsigned = token.rpartition(".")[0]
        for forged in (later, unsigned, f"{unsigned}.", f"x{token}", f"{token}x", f"{unsigned}.²é", "", ".", "..."):
            with pytest.raises(InvalidToken):
                read_token(TokenPurpose.FILM, forged)


def test_another_secret_invalidates_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    token = sign_token(TokenPurpose.FILM, "video_1", expires_at=EXPIRES_AT)
    monkeypatch.setenv("CINEMETER_SECRET", "another secret")
    get_settings.cache_clear()
    for invalid in (token, LEGACY[TokenPurpose.FILM]):
        with pytest.raises(InvalidToken):
            read_token(TokenPurpose.FILM, invalid)


@pytest.mark.parametrize("purpose", LEGACY)
def test_a_token_of_an_older_version_works_until_it_expires(purpose: TokenPurpose) -> None:
    token = read_token(purpose, LEGACY[purpose])
    assert list(token.values) == LEGACY[purpose].split(".")[:-2]
    assert not token.has_expired(EXPIRES_AT - timedelta(seconds=1))
    assert token.has_expired(EXPIRES_AT)


def test_a_value_must_not_contain_the_separator() -> None:
    with pytest.raises(ValueError, match="full stop"):
        sign_token(TokenPurpose.FILM, "a.b", expires_at=EXPIRES_AT)
