"""A private certificate authority and a server certificate for shop.lab, made by openssl for one test session."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass

import pytest

# for clients whose clocks are wrong by up to months: openssl before 3.4 always begins today
EARLIER = ("faketime", "-f", "-100d") if shutil.which("faketime") else ()


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


def made(folder, days="200"):
    """A new Authority, its files in this folder. :param days: for which its server's certificate is good."""
    def openssl(*arguments):
        subprocess.run([*EARLIER, "openssl", *arguments], cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    (folder / "names").write_text("subjectAltName=DNS:shop.lab,IP:127.0.0.1\n")
    fresh = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *fresh, "-days", "200", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem",
            "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", *fresh, "-subj", "/CN=shop.lab", "-keyout", "server.key", "-out", "server.csr")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days,
            "-extfile", "names", "-out", "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    (folder / "both.pem").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())
    return Authority(str(folder / "ca.pem"), context, str(folder / "both.pem"))
