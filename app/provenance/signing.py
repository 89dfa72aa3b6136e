"""The certificate that signs the manifests of films: the operator's own, or a development one made for a home."""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.clock import local_now
from app.provenance.mark_state import MarkError
from app.settings import get_settings

DEVELOPMENT_FILE = "signing-development.pem"
DEVELOPMENT_NAME = "Cinemeter development certificate"
_DEVELOPMENT_DAYS = 3650
_DEVELOPMENT_DAYS_EARLY = 400
_RSA_BITS_MIN = 2048
# The use of a certificate that signs C2PA claims, by the C2PA certificate policy.
_CLAIM_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class SigningIdentity:
    """A private key with its certificates: `chain` is PEM text, the signer's own certificate first.

    `is_development` says that nobody but this home has issued it.
    """

    algorithm: str
    key: bytes
    chain: bytes
    name: str
    expires_at: datetime
    is_development: bool


def signing_identity() -> SigningIdentity:
    """Return what the manifests of this service are signed with; a development certificate is made where none is set.

    Raises MarkError when the file cannot be read or used, or its certificate is not valid now.
    """
    settings = get_settings()
    path = settings.signing_key or settings.home.absolute() / DEVELOPMENT_FILE
    try:
        if settings.signing_key is None and not path.exists():
            _make_development_file(path)
        status = path.stat()
        identity = _load(path, settings.signing_key is None, (status.st_ino, status.st_mtime_ns, status.st_size))
    except OSError as error:
        raise MarkError(f"The signing key {path} cannot be read: {error.strerror or error}.") from error
    if identity.expires_at <= local_now():
        raise MarkError(f"The certificate in {path} expired at {identity.expires_at.isoformat()}.")
    return identity


@lru_cache(maxsize=4)
def _load(path: Path, is_development: bool, version: tuple[int, int, int]) -> SigningIdentity:
    """Read the file once for each version of it: a key that is replaced is used from the next film on."""
    return read_identity(path, is_development=is_development)


def read_identity(path: Path, *, is_development: bool) -> SigningIdentity:
    """Read a PEM file: a private key without a passphrase, then its certificate and those that issued it.

    Raises MarkError for a file that is not that, and OSError.
    """
    text = path.read_bytes()
    try:
        key = load_pem_private_key(text, password=None)
        certificates = x509.load_pem_x509_certificates(text)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MarkError(
            f"{path} must hold a private key without a passphrase, and its certificates: {error}."
        ) from None
    own = certificates[0]
    if _public_bytes(own) != key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise MarkError(f"The first certificate in {path} is not that of its private key.")
    if own.issuer == own.subject:
        raise MarkError(f"The certificate in {path} has signed itself; C2PA asks for one that another has issued.")
    return SigningIdentity(
        algorithm=_algorithm(key, path),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        chain=b"".join(each.public_bytes(Encoding.PEM) for each in certificates),
        name=_common_name(own),
        expires_at=own.not_valid_after_utc,
        is_development=is_development,
    )


def _public_bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _algorithm(key: object, path: Path) -> str:
    """Return C2PA's name of the signature that a key makes."""
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _RSA_BITS_MIN:
        return "ps256"
    raise MarkError(f"The key in {path} must be of P-256, P-384, P-521, Ed25519, or RSA of {_RSA_BITS_MIN} bits.")


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _make_development_file(path: Path) -> None:
    """Write a new key, its certificate and the one that issued it, readable only by the owner.

    The key of the issuer is not kept, so nothing else can ever be issued under its name.
    """
    issuer_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _certificate(issuer_key, issuer_key, f"{DEVELOPMENT_NAME}: issuer", is_issuer=True)
    own = _certificate(key, issuer_key, DEVELOPMENT_NAME, is_issuer=False)
    parts = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    parts += [each.public_bytes(Encoding.PEM) for each in (own, issuer)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=".signing-", delete=False) as draft:
        draft.write(b"".join(parts))
        # A host that loses power must not keep an empty file, which no worker would start with.
        draft.flush()
        os.fsync(draft.fileno())
    # Linking is atomic and never replaces: where several processes start at once, the first certificate stays.
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(draft.name)
    Path(draft.name).unlink()


def _certificate(
    key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey, name: str, *, is_issuer: bool
) -> x509.Certificate:
    # Early, as the library that signs reads the machine's clock, which a clock with an offset may be far ahead of.
    begins_at = datetime.fromtimestamp(local_now().timestamp(), UTC) - timedelta(days=_DEVELOPMENT_DAYS_EARLY)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(f"{DEVELOPMENT_NAME}: issuer"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(begins_at + timedelta(days=_DEVELOPMENT_DAYS_EARLY + _DEVELOPMENT_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_issuer, path_length=0 if is_issuer else None), critical=True)
        .add_extension(_key_usage(is_issuer=is_issuer), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_issuer:
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION, _CLAIM_SIGNING])
        builder = builder.add_extension(uses, critical=False)
    return builder.sign(issuer_key, SHA256())


def _name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, DEVELOPMENT_NAME),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _key_usage(*, is_issuer: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_issuer,
        key_cert_sign=is_issuer,
        crl_sign=is_issuer,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
