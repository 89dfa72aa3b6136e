"""Signing keys of an operator, with certificates that C2PA accepts or refuses."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from app.clock import local_now


def write_key(path: Path, uses: Sequence[ObjectIdentifier], *, begins_in_days: int = -1) -> Path:
    """Write a key, a certificate of these extended uses, and the one that issued it; return the path."""
    issuer_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    certificates = []
    for owner, name, is_issuer in ((key, "Example Films", False), (issuer_key, "Example Issuer", True)):
        begins_at = local_now() + timedelta(days=begins_in_days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("Example Issuer"))
            .public_key(owner.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins_at)
            .not_valid_after(begins_at + timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=is_issuer, path_length=None), critical=True)
            .add_extension(_usage(is_issuer=is_issuer), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(owner.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        if not is_issuer:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        certificates.append(builder.sign(issuer_key, SHA256()))
    parts = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    path.write_bytes(b"".join(parts + [each.public_bytes(Encoding.PEM) for each in certificates]))
    return path


def _name(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )


def _usage(*, is_issuer: bool) -> x509.KeyUsage:
    others = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    others |= dict.fromkeys(("encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=not is_issuer, key_cert_sign=is_issuer, crl_sign=is_issuer, **others)
