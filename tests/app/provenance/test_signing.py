"""The certificate of manifests: made once for a home, or the operator's, and refused where it cannot sign."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from app.cli.doctor_marks import check_marks
from app.provenance import signing
from app.provenance.manifest import try_identity
from app.provenance.mark_state import MarkError
from app.provenance.signing import DEVELOPMENT_FILE, DEVELOPMENT_NAME, read_identity, signing_identity
from app.settings import get_settings
from tests.app.provenance.signing_keys import write_key


def test_a_home_makes_its_development_certificate_once(home: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        identities = list(threads.map(lambda _: signing_identity(), range(16)))
    assert len({each.key for each in identities}) == 1
    assert (identities[0].is_development, identities[0].name) == (True, DEVELOPMENT_NAME)
    assert [path.name for path in home.iterdir()] == [DEVELOPMENT_FILE]
    assert (home / DEVELOPMENT_FILE).stat().st_mode & 0o077 == 0


def test_the_operators_key_signs_where_one_is_set(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signing_identity()
    own = (home / DEVELOPMENT_FILE).rename(tmp_path / "own.pem")
    monkeypatch.setenv("CINEMETER_SIGNING_KEY", str(own))
    get_settings.cache_clear()
    assert not signing_identity().is_development
    assert not (home / DEVELOPMENT_FILE).exists()


def test_an_expired_certificate_signs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = signing_identity()
    monkeypatch.setattr(signing, "local_now", lambda: identity.expires_at + timedelta(seconds=1))
    with pytest.raises(MarkError, match="expired"):
        signing_identity()


def test_a_key_file_that_cannot_sign_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signing_identity()
    parts = (home / DEVELOPMENT_FILE).read_text().split("-----BEGIN CERTIFICATE-----")
    key, own, issuer = parts[0], *(f"-----BEGIN CERTIFICATE-----{part}" for part in parts[1:])
    for text, reason in (
        ("", "private key"),
        (key, "certificates"),
        (own, "private key"),
        (key + issuer, "not that of its private key"),
    ):
        (tmp_path / "broken.pem").write_text(text)
        with pytest.raises(MarkError, match=reason):
            read_identity(tmp_path / "broken.pem", is_development=False)
    monkeypatch.setenv("CINEMETER_SIGNING_KEY", str(tmp_path / "missing.pem"))
    get_settings.cache_clear()
    with pytest.raises(MarkError, match="cannot be read"):
        signing_identity()


def test_a_certificate_that_c2pa_does_not_accept_is_refused_before_a_film_is_made(home: Path, tmp_path: Path) -> None:
    try_identity(signing_identity())
    tls = write_key(tmp_path / "tls.pem", [ExtendedKeyUsageOID.SERVER_AUTH])
    with pytest.raises(MarkError, match="the certificate is invalid"):
        try_identity(read_identity(tls, is_development=False))
    future = write_key(tmp_path / "future.pem", [ExtendedKeyUsageOID.EMAIL_PROTECTION], begins_in_days=30)
    with pytest.raises(MarkError, match="not valid at time of signing"):
        try_identity(read_identity(future, is_development=False))


def test_a_replaced_key_signs_the_next_film(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = write_key(tmp_path / "key.pem", [ExtendedKeyUsageOID.EMAIL_PROTECTION])
    monkeypatch.setenv("CINEMETER_SIGNING_KEY", str(key))
    get_settings.cache_clear()
    first = signing_identity()
    write_key(tmp_path / "next.pem", [ExtendedKeyUsageOID.EMAIL_PROTECTION]).rename(key)
    assert signing_identity().key != first.key


def test_the_doctor_says_who_signs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [before] = check_marks()
    assert (before.ok, home.exists()) == (None, False), "the doctor makes nothing"
    signing_identity()
    [development] = check_marks()
    assert development.ok is None
    assert "no verifier trusts it" in development.result
    own = (home / DEVELOPMENT_FILE).rename(tmp_path / "own.pem")
    monkeypatch.setenv("CINEMETER_SIGNING_KEY", str(own))
    get_settings.cache_clear()
    [operator] = check_marks()
    assert operator.ok
    write_key(own, [ExtendedKeyUsageOID.SERVER_AUTH])
    [unfit] = check_marks()
    assert unfit.ok is False
    own.write_text("no key")
    [broken] = check_marks()
    assert broken.ok is False
