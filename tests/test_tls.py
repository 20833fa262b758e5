"""Contexts, sites, certificates on disk and what is known of a client's."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from hemi.errors import EnvError
from hemi.tls import (
    Identity,
    Policy,
    SiteTable,
    check_certificate,
    check_policy,
    format_name,
    make_context,
    warn_of_certificate,
)
from tests.tlskit import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("localhost")


# Sites


def test_equal_certificates_and_policies_are_one_site(identity: Identity) -> None:
    table = SiteTable()
    site = table.site(identity, Policy())
    assert table.site(Identity(identity.certificate, identity.private_key), Policy()) is site
    other = table.site(identity, Policy(min_version="1.3"))
    assert other is not site
    assert other.context is not site.context


def test_names_are_found_in_their_order(identity: Identity) -> None:
    table = SiteTable()
    made = {
        name: table.site(identity, Policy(alpn=(name,)))
        for name in ("exact", "suffix", "longer", "prefix", "longprefix", "default")
    }
    table.add(["shop.example.com", "www.shop.example.com"], made["exact"])
    table.add(["*.example.com"], made["suffix"])
    table.add(["*.a.example.com"], made["longer"])
    table.add(["www.*"], made["prefix"])
    table.add(["www.b.*"], made["longprefix"])
    table.add(["*"], made["default"])
    table.add(["*", "shop.example.com", "*.example.com", "www.*"], made["longprefix"])  # the first one stays
    expected = {
        "shop.example.com": "exact",
        "www.shop.example.com": "exact",
        "x.example.com": "suffix",
        "www.example.com": "suffix",
        "x.a.example.com": "longer",
        "y.x.a.example.com": "longer",
        "a.example.com": "suffix",
        "example.com": "default",
        "www.example.org": "prefix",
        "www.b.org": "longprefix",
        "www": "default",
        "www.": "prefix",
        ".example.com": "default",
        "": "default",
        ".": "default",
        "127.0.0.1": "default",
    }
    assert {name: table.find(name) for name in expected} == {
        name: made[key] for name, key in expected.items()
    }


def test_strict_names_need_a_site(identity: Identity) -> None:
    table = SiteTable(strict=True)
    site = table.site(identity, Policy())
    table.add(["*", "localhost"], site)
    assert table.find("localhost") is site
    assert table.find("other") is None
    assert table.find("") is site


# Contexts


def test_a_context_is_safe(identity: Identity) -> None:
    context = make_context(identity, Policy())
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    for option in (ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_COMPRESSION):
        assert context.options & option
    for cipher in context.get_ciphers():
        assert cipher["aead"]
        assert cipher["kea"] in ("kx-ecdhe", "kx-any")


def test_client_certificates_exclude_tickets(authority: Authority, identity: Identity) -> None:
    for client_auth in ("request", "require"):
        context = make_context(identity, Policy(client_auth=client_auth, client_ca=authority.file))
        assert context.num_tickets == 0
        assert context.options & ssl.OP_NO_TICKET


def test_an_unusable_certificate_is_an_environment_error(identity: Identity) -> None:
    with pytest.raises(EnvError, match=r'nowhere\.pem" cannot be read: no such file'):
        make_context(Identity("/nowhere.pem"), Policy())
    with pytest.raises(EnvError, match="ciphers must be"):
        make_context(identity, Policy(ciphers="NONSENSE"))


def test_the_password_is_not_shown() -> None:
    assert "geheim" not in repr(Identity("a", "b", "geheim"))


# Certificates on disk


def test_usable_certificates(identity: Identity, tmp_path: Path) -> None:
    assert check_certificate(identity.certificate, identity.private_key) is None
    both = tmp_path / "both.pem"
    both.write_bytes(Path(identity.certificate).read_bytes() + Path(identity.private_key).read_bytes())
    assert check_certificate(str(both)) is None


def test_unusable_certificates(authority: Authority, identity: Identity, tmp_path: Path) -> None:
    other = authority.issue("other.example")
    noise = tmp_path / "noise.pem"
    noise.write_bytes(b"noise")
    torn = tmp_path / "torn.pem"
    torn.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    expected = {
        (
            str(tmp_path / "none.pem"),
            identity.private_key,
        ): f'"{tmp_path}/none.pem" cannot be read: no such file',
        (
            identity.certificate,
            str(tmp_path / "none.key"),
        ): f'"{tmp_path}/none.key" cannot be read: no such file',
        (str(tmp_path), identity.private_key): f'"{tmp_path}" cannot be read: is a directory',
        (str(noise), identity.private_key): f'"{noise}" must be a PEM file with a certificate',
        (identity.certificate, str(noise)): f'"{noise}" must be a PEM file with a private key',
        (identity.certificate, ""): f'"{identity.certificate}" must be a PEM file with a private key',
        (identity.certificate, other.private_key): (
            f'the private key "{other.private_key}" must be the one of '
            f'the certificate "{identity.certificate}"'
        ),
        (str(torn), identity.private_key): f'the certificate "{torn}" with the key',
    }
    for (certificate, key), message in expected.items():
        error = check_certificate(certificate, key)
        assert error is not None
        assert error.startswith(message)


def test_encrypted_keys(identity: Identity, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(Path(identity.private_key).read_bytes(), None)
    path = tmp_path / "encrypted.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"geheim"),
        )
    )
    start = f'the private key "{path}" is encrypted and must come '
    assert check_certificate(identity.certificate, str(path), "geheim") is None
    assert check_certificate(identity.certificate, str(path), "wrong") == start + "with the right password"
    assert check_certificate(identity.certificate, str(path)) == start + "with its password given"


def test_policies(authority: Authority, identity: Identity, tmp_path: Path) -> None:
    authority.issue("alice@example.org")
    crl = authority.revoke("alice@example.org")
    ca = authority.file
    assert check_policy(Policy()) is None
    assert check_policy(Policy(client_auth="require", client_ca=ca, client_crl=crl)) is None
    noise = tmp_path / "noise.pem"
    noise.write_text("noise")
    torn = tmp_path / "torn.crl"
    torn.write_text("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    for policy, message in (
        (Policy(client_auth="request"), "client certificates need"),
        (Policy(client_auth="request", client_ca="/nowhere"), '"/nowhere" cannot be read'),
        (
            Policy(client_auth="request", client_ca=str(noise)),
            f'"{noise}" must be a PEM file with "BEGIN CERT',
        ),
        (
            Policy(client_auth="request", client_ca=ca, client_crl=ca),
            f'"{ca}" must be a PEM file with "BEGIN X509',
        ),
        (Policy(client_auth="request", client_ca=ca, client_crl=str(torn)), f'"{torn}" cannot be used'),
        (Policy(ciphers="NO"), 'ciphers must be an OpenSSL cipher list, not "NO"'),
    ):
        error = check_policy(policy)
        assert error is not None
        assert error.startswith(message)


def test_warnings(authority: Authority) -> None:
    fine = authority.issue("fine", "a.example", "*.b.example")
    names = ["a.example", "x.b.example", "*.b.example", "*", "www.*"]
    assert warn_of_certificate(fine.certificate, names) == []
    assert warn_of_certificate(fine.certificate, ["c.example"]) == [
        f'the certificate "{fine.certificate}" does not have the name "c.example"'
    ]
    for days, words in ((-1, "expired on"), (3, "expires on")):
        near = authority.issue(f"near{days}", "a.example", days=days)
        [warning] = warn_of_certificate(near.certificate)
        assert words in warning
    [warning] = warn_of_certificate(fine.certificate, now=time.time() - 300 * 86400)
    assert "is valid only from" in warning


# Names of clients


def test_names_of_rfc_4514() -> None:
    name = (
        (("countryName", "DE"),),
        (("organizationName", 'A, "B" + C;'),),
        (("organizationalUnitName", "#1"), ("emailAddress", "a@b.example")),
        (("commonName", " Änne\r\n"),),
    )
    assert format_name(name) == (
        'CN=\\ Änne\\0D\\0A,OU=\\#1+emailAddress=a@b.example,O=A\\, \\"B\\" \\+ C\\;,C=DE'
    )
    assert format_name(()) == ""
