"""Contexts, sites, certificates on disk and what is known of a client's."""

from __future__ import annotations

import re
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from hemi.errors import EnvError
from hemi.tls import (
    Identity,
    Policy,
    Site,
    SiteTable,
    check_certificate,
    check_policy,
    format_name,
    is_fit_for_h2,
    make_context,
    warn_of_certificate,
)
from tests.tlskit import Authority, client_context, connect, exchange, one_site, serving
from tests.waiting import until

VERSIONS = ["TLSv1_2", "TLSv1_3"]


@pytest.fixture
def client(authority: Authority) -> ssl.SSLContext:
    return client_context(authority)


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


# With clients


def test_the_site_is_chosen_by_name(authority: Authority, client: ssl.SSLContext) -> None:
    table = SiteTable()
    names = {"a": ["a.example"], "b": ["*.b.example"], "c": ["www.*"], "d": ["*"]}
    for key, patterns in names.items():
        identity = authority.issue(key, f"{key}.example", f"x.{key}.example", "www.c.org", "other.example")
        table.add(patterns, table.site(identity, Policy()))
    with serving(table) as server:
        for name, key in (
            ("a.example", "a"),
            ("x.b.example", "b"),
            ("www.c.org", "c"),
            ("other.example", "d"),
        ):
            with connect(server.port, client, name) as sock:
                certificate: Any = sock.getpeercert()
            assert ("DNS", f"{key}.example") in certificate["subjectAltName"]
        anonymous = client_context(authority)
        anonymous.check_hostname = False
        with connect(server.port, anonymous, None) as sock:  # type: ignore[arg-type]
            certificate = sock.getpeercert()
        assert ("DNS", "d.example") in certificate["subjectAltName"]
        until(lambda: len(server.infos) == 5)
        assert server.infos[-1].server_name == ""


def test_strict_names_are_refused(identity: Identity, client: ssl.SSLContext) -> None:
    table = SiteTable(strict=True)
    table.add(["*", "localhost"], table.site(identity, Policy()))
    with serving(table) as server:
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            connect(server.port, client, "other.example")
        with connect(server.port, client) as sock:
            assert exchange(sock) == b"hello"
        [failure] = until(lambda: server.failures)
        assert str(failure) == 'there is no site "other.example"'


def test_the_minimum_version_is_kept(authority: Authority, identity: Identity) -> None:
    with serving(one_site(identity, Policy(min_version="1.3"))) as server:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            connect(server.port, client_context(authority, version="TLSv1_2"))
        with connect(server.port, client_context(authority, version="TLSv1_3")) as sock:
            assert exchange(sock) == b"hello"
        [failure] = until(lambda: server.failures)
        assert failure.reason == "unsupported protocol"


def test_ciphers_are_kept(authority: Authority, identity: Identity) -> None:
    cipher = "ECDHE-ECDSA-CHACHA20-POLY1305"
    with serving(one_site(identity, Policy(ciphers=cipher))) as server:
        with connect(server.port, client_context(authority, version="TLSv1_2")) as sock:
            assert sock.cipher()[0] == cipher  # type: ignore[index]
        other = client_context(authority, version="TLSv1_2")
        other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with pytest.raises(ssl.SSLError):
            connect(server.port, other)
        [failure] = until(lambda: server.failures)
        assert failure.reason == "no shared cipher"


# HTTP/2 and the suites of TLS 1.2 (RFC 9113 §9.2.2)

GOOD, WEAK = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-SHA"
BOTH = ("h2", "http/1.1")


def test_all_of_the_default_suites_are_fit_for_http_2(identity: Identity) -> None:
    site = Site(identity, Policy(alpn=BOTH))
    suites: Any = site.context.get_ciphers()
    assert all(is_fit_for_h2(suite) for suite in suites)
    assert site.h1_context is None


def test_suites_that_are_not_fit_for_http_2() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:eNULL:@SECLEVEL=0")
    suites: Any = context.get_ciphers()
    fit = {suite["name"] for suite in suites if is_fit_for_h2(suite)}
    assert {GOOD, "DHE-RSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"} <= fit
    for name in fit - {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}:
        assert re.match("(ECDHE|DHE)-.*(GCM|CCM|CHACHA20)", name), name
    for name in (WEAK, "AES128-GCM-SHA256", "PSK-AES128-GCM-SHA256", "ADH-AES128-GCM-SHA256", "NULL-SHA256"):
        assert name not in fit


@pytest.mark.parametrize(
    ("version", "offered", "protocol", "suite"),
    [
        ("TLSv1_2", f"{WEAK}:{GOOD}", "h2", GOOD),  # whatever the client likes best
        ("TLSv1_2", GOOD, "h2", GOOD),
        ("TLSv1_2", WEAK, "http/1.1", WEAK),
        ("TLSv1_2", f"{WEAK}:ECDHE-ECDSA-AES256-GCM-SHA384", "http/1.1", WEAK),  # of which only one is ours
        ("TLSv1_3", WEAK, "h2", None),
        ("", WEAK, "h2", None),
    ],
)
def test_http_2_only_over_suites_that_are_fit(
    authority: Authority, identity: Identity, version: str, offered: str, protocol: str, suite: str | None
) -> None:
    with serving(one_site(identity, Policy(ciphers=f"{WEAK}:{GOOD}", alpn=BOTH))) as server:
        client = client_context(authority, version=version)
        client.set_ciphers(offered)
        client.set_alpn_protocols(["h2", "http/1.1"])
        with connect(server.port, client) as sock:
            assert sock.selected_alpn_protocol() == protocol
            assert suite is None or sock.cipher()[0] == suite  # type: ignore[index]


def test_http_2_alone_has_no_other_way(identity: Identity) -> None:
    site = Site(identity, Policy(ciphers=WEAK, alpn=("h2",)))
    assert site.h1_context is None
    assert site.context_for(b"") is site.context


# Client certificates


def policy(authority: Authority, client_auth: Any, **more: Any) -> Policy:
    return Policy(client_auth=client_auth, client_ca=authority.file, **more)


@pytest.mark.parametrize("version", VERSIONS)
def test_client_certificates_are_known(authority: Authority, identity: Identity, version: str) -> None:
    alice = authority.issue("alice@example.org", common_name="alice, the first")
    context = client_context(authority, alice, version)
    with serving(one_site(identity, policy(authority, "require"))) as server:
        with connect(server.port, context) as sock:
            assert exchange(sock) == b"hello"
        [info] = server.infos
        certificate = info.certificate
        assert info.verified
        assert certificate.subject.startswith("CN=alice\\, the first,OU=")
        assert "O=Test ca" in certificate.issuer
        assert ("email", "alice@example.org") in certificate.alt_names
        assert certificate.not_before < time.time() < certificate.not_after
        assert certificate.pem.strip() == Path(alice.certificate).read_text().strip()
        assert len(certificate.fingerprint) == 64
        assert int(certificate.serial, 16) > 0
        assert info.client_subject == certificate.subject
        assert info.client_issuer == certificate.issuer
        assert info.client_serial == certificate.serial
        assert info.client_fingerprint == certificate.fingerprint


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client_auth", ["request", "require"])
def test_the_matrix_of_client_certificates(
    authority: Authority, identity: Identity, tmp_path: Path, version: str, client_auth: str
) -> None:
    stranger = Authority(tmp_path, "stranger")
    crl = authority.revoke("bob") if authority.issue("bob", "bob@example.org") else ""
    cases = {
        "": (None, "ok" if client_auth == "request" else "peer did not return a certificate"),
        "good": (authority.issue("carol@example.org"), "ok"),
        "stranger": (
            stranger.issue("mallory@example.org"),
            "certificate verify failed: unable to get local issuer",
        ),
        "expired": (
            authority.issue("old@example.org", days=-1),
            "certificate verify failed: certificate has expired",
        ),
        "revoked": (
            Identity(f"{authority.folder}/ca-bob.pem", f"{authority.folder}/ca-bob.key"),
            "certificate verify failed: certificate revoked",
        ),
    }
    with serving(one_site(identity, policy(authority, client_auth, client_crl=crl))) as server:
        for label, (certificate, expected) in cases.items():
            server.failures.clear()
            answer = b""
            try:
                with connect(server.port, client_context(authority, certificate, version)) as sock:
                    answer = exchange(sock)
            except OSError:
                pass  # in TLS 1.3 the client learns it only when it reads
            if expected == "ok":
                assert answer == b"hello", label
                assert server.failures == []
            else:
                assert answer == b"", label
                [failure] = until(lambda: server.failures)
                assert failure.reason.startswith(expected), label
