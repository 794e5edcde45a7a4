"""A private certificate authority and a server certificate for shop.lab, made for one test session."""

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

EARLIER = timedelta(days=100)       # for clients whose clocks are wrong by up to months


@dataclass(frozen=True)
class Authority:
    """:param file: the authority's own certificate (PEM). :param server: the context of a server called shop.lab, 127.0.0.1.
    :param pem: key and certificate of that server in one file."""

    file: str
    server: ssl.SSLContext
    pem: str


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return made(tmp_path_factory.mktemp("authority"))


def made(folder, days=100):
    """A new Authority, its files in this folder. :param days: for which its server's certificate is good from now on."""
    above, below = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    signs = x509.KeyUsage(key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False,
                          key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                          decipher_only=False)
    names = x509.SubjectAlternativeName([x509.DNSName("shop.lab"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    root = _signed("Test CA", above, above, 100, (x509.BasicConstraints(ca=True, path_length=None), True), (signs, True))
    server = _signed("shop.lab", below, above, days, (names, False))
    key = below.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(root)
    (folder / "both.pem").write_bytes(key + server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return Authority(str(folder / "ca.pem"), context, str(folder / "both.pem"))


def _signed(name, key, by, days, *extensions):
    """A certificate (PEM) for this key, signed by the other one, which is the authority's."""
    now = datetime.now(timezone.utc)
    ours, theirs = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, "Test CA"))
    build = x509.CertificateBuilder().subject_name(ours).issuer_name(theirs).public_key(key.public_key())
    build = build.serial_number(x509.random_serial_number())
    build = build.not_valid_before(now - EARLIER).not_valid_after(now + timedelta(days))
    whose = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key())
    mine = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    for extension, critical in (*extensions, (whose, False), (mine, False)):
        build = build.add_extension(extension, critical)
    return build.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
