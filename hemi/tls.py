"""TLS: contexts, the sites that they belong to, certificates, and what is known of a connection afterwards.

The bytes of a connection are in `hemi.tlschannel`, the ClientHello in `hemi.tlshello`; nothing here opens a
socket.

Laws of this module:
- A `Site` is what one OpenSSL context serves: a certificate and its policy. Equal ones are the same site,
  different ones share nothing: no ticket key, no session cache. So no session of one site resumes at another,
  and none skips the client certificate that the other wants (CVE-2025-23419).
- The site is found by the name in the ClientHello before OpenSSL sees a byte. A request for a host whose site
  is another one than its connection's is misdirected: 421 (RFC 9110 §7.4).
- Contexts are made anew for every stage, so a reload picks up renewed certificates and revocation lists, and
  ends the resumption of older sessions.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from hemi.errors import EnvError

MinVersion = Literal["1.2", "1.3"]
ClientAuth = Literal["off", "request", "require"]

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""The suites for TLS 1.2, forward-secret and authenticated all (RFC 9325 §4.2; Mozilla's "intermediate"
without DHE, which costs five times as much). Those of TLS 1.3 are OpenSSL's: all are good."""

EXPIRES_SOON = 7 * 86400
"""Seconds before its end from which a certificate is warned about."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a site is: PEM files with its certificate (and the chain below it) and its private key, by absolute
    path.

    The key may stand in the certificate's file, when `private_key` is "".
    """

    certificate: str
    private_key: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a site asks of its clients. `client_auth` "request" lets clients without a certificate in, but
    none with a bad one. `client_ca` and `client_crl` are PEM files; `alpn` is in the order of preference."""

    min_version: MinVersion = "1.2"
    ciphers: str = ""
    client_auth: ClientAuth = "off"
    client_ca: str = ""
    client_crl: str = ""
    alpn: tuple[str, ...] = ()


class Site:
    """A certificate with its policy, and the OpenSSL context for it. Sites are compared by identity.

    `h1_context` is None, or for clients that share no suite with us that HTTP/2 may be spoken over (RFC 9113 §9.2.2,
    appendix A): it does not offer HTTP/2. OpenSSL's Python module has no say in ALPN later than that.
    """

    __slots__ = ("_h2_suites", "context", "h1_context", "identity", "policy")

    def __init__(self, identity: Identity, policy: Policy) -> None:
        """Raises EnvError when a file cannot be used."""
        self.identity = identity
        self.policy = policy
        self.context = context = make_context(identity, policy)
        self.h1_context: ssl.SSLContext | None = None
        suites: Any = context.get_ciphers()
        fit = [suite for suite in suites if is_fit_for_h2(suite)]
        self._h2_suites = frozenset([(suite["id"] & 0xFFFF).to_bytes(2) for suite in fit])
        if "h2" in policy.alpn and len(policy.alpn) > 1 and len(fit) < len(suites):
            others = tuple(protocol for protocol in policy.alpn if protocol != "h2")
            self.h1_context = make_context(identity, replace(policy, alpn=others))
            # Of what a client offers, what HTTP/2 may be spoken over comes first.
            ordered = [suite["name"] for suite in (*fit, *suites) if suite["protocol"] != "TLSv1.3"]
            context.set_ciphers(":".join(dict.fromkeys(ordered)))
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE

    def __repr__(self) -> str:
        return f"<Site {self.identity.certificate} client_auth={self.policy.client_auth}>"

    def context_for(self, offered: bytes) -> ssl.SSLContext:
        """The context for a client that offers these suites, of two bytes each."""
        ours, other = self._h2_suites, self.h1_context
        if other is None or any(offered[at : at + 2] in ours for at in range(0, len(offered), 2)):
            return self.context
        return other


def is_fit_for_h2(suite: dict[str, Any]) -> bool:
    """Whether HTTP/2 may be spoken over a cipher suite of an SSLContext: one with ephemeral keys and authenticated
    encryption, which none of those is that RFC 9113 prohibits (appendix A)."""
    if suite["protocol"] == "TLSv1.3":
        return True
    ephemeral = suite["kea"] in ("kx-ecdhe", "kx-dhe", "kx-ecdhe-psk", "kx-dhe-psk")
    return bool(ephemeral and suite["aead"] and suite["auth"] != "auth-null")


def make_context(identity: Identity, policy: Policy) -> ssl.SSLContext:
    """Makes the context of a site. Raises EnvError when a file or a cipher list cannot be used."""
    error = check_certificate(identity.certificate, identity.private_key, identity.password)
    error = error or check_policy(policy)
    if error:
        raise EnvError(error)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_identity(context, identity)
    context.minimum_version = _VERSIONS[policy.min_version]
    context.set_ciphers(policy.ciphers or CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # All the suites are good: a telephone without AES instructions may choose ChaCha20.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if policy.alpn:
        context.set_alpn_protocols(policy.alpn)
    # Each connection brings a ticket for the next one; OpenSSL's second costs 7 % of a handshake.
    context.num_tickets = 1
    if policy.client_auth != "off":
        _ask_clients(context, policy)
    return context


def _ask_clients(context: ssl.SSLContext, policy: Policy) -> None:
    context.verify_mode = ssl.CERT_REQUIRED if policy.client_auth == "require" else ssl.CERT_OPTIONAL
    context.load_verify_locations(cafile=policy.client_ca)
    if policy.client_crl:
        context.load_verify_locations(cafile=policy.client_crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    # A ticket would vouch for hours for a certificate that nobody looks at again.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0


def _load_identity(context: ssl.SSLContext, identity: Identity) -> None:
    # A password is always given: without one OpenSSL would ask for it at the terminal.
    context.load_cert_chain(identity.certificate, identity.private_key or None, password=identity.password)


# Which site for which name


class SiteTable:
    """Finds the site by host name: exact names first, then the longest `*.suffix`, then the longest
    `prefix.*`, then the default one (pattern "*"). With `strict`, names without a site of their own have
    none."""

    __slots__ = ("_exact", "_prefixes", "_sites", "_suffixes", "default", "strict")

    def __init__(self, strict: bool = False) -> None:
        self.default: Site | None = None
        self.strict = strict
        self._exact: dict[str, Site] = {}
        self._suffixes: dict[str, Site] = {}
        self._prefixes: dict[str, Site] = {}
        self._sites: dict[tuple[Identity, Policy], Site] = {}

    def __repr__(self) -> str:
        return f"<SiteTable sites={len(self._sites)} default={self.default!r}>"

    def site(self, identity: Identity, policy: Policy) -> Site:
        """The site of this certificate and policy, made at the first call. Raises EnvError."""
        key = (identity, policy)
        found = self._sites.get(key)
        if found is None:
            found = self._sites[key] = Site(identity, policy)
        return found

    def add(self, patterns: Iterable[str], site: Site) -> None:
        """Binds host name patterns (lower case, A-labels) to a site. The first one for a pattern stays."""
        for pattern in patterns:
            if pattern == "*":
                self.default = self.default or site
            elif pattern.startswith("*."):
                self._suffixes.setdefault(pattern[1:], site)
            elif pattern.endswith(".*"):
                self._prefixes.setdefault(pattern[:-1], site)
            else:
                self._exact.setdefault(pattern, site)

    def find(self, name: str) -> Site | None:
        """The site for a host name in lower case; "" is for clients that name none."""
        site = self._exact.get(name)
        if site is not None:
            return site
        if self._suffixes:
            at = name.find(".", 1)
            while at >= 0:
                site = self._suffixes.get(name[at:])
                if site is not None:
                    return site
                at = name.find(".", at + 1)
        if self._prefixes:
            at = name.rfind(".")
            while at > 0:
                site = self._prefixes.get(name[: at + 1])
                if site is not None:
                    return site
                at = name.rfind(".", 0, at)
        return None if self.strict and name else self.default


# Certificates on disk


def check_certificate(certificate: str, private_key: str = "", password: str = "") -> str | None:
    """Says what keeps the PEM files from being used, naming the file, or None. Reads the files, nothing
    else."""
    for path in filter(None, (certificate, private_key)):
        error = _check_readable(path)
        if error:
            return error
    if b"-----BEGIN CERTIFICATE-----" not in _content(certificate):
        return f'"{certificate}" must be a PEM file with a certificate'
    key = private_key or certificate
    if b"PRIVATE KEY-----" not in _content(key):
        return f'"{key}" must be a PEM file with a private key'
    try:
        _load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Identity(certificate, private_key, password))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f'the private key "{key}" must be the one of the certificate "{certificate}"'
        if b"ENCRYPTED" in _content(key):
            what = "with the right password" if password else "with its password given"
            return f'the private key "{key}" is encrypted and must come {what}'
        return f'the certificate "{certificate}" with the key "{key}" cannot be used: {reason_of(error)}'
    except (OSError, ValueError) as error:
        return f'the certificate "{certificate}" with the key "{key}" cannot be used: {error}'
    return None


def check_policy(policy: Policy) -> str | None:
    """Says what is wrong with the files and the ciphers of a policy, or None."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if policy.ciphers:
        try:
            context.set_ciphers(policy.ciphers)
        except ssl.SSLError:
            return f'ciphers must be an OpenSSL cipher list, not "{policy.ciphers}"'
    if policy.client_auth == "off":
        return None
    if not policy.client_ca:
        return "client certificates need a file with the certificates of their CA"
    for path, mark in ((policy.client_ca, b"BEGIN CERTIFICATE"), (policy.client_crl, b"BEGIN X509 CRL")):
        if not path:
            continue
        error = _check_readable(path)
        if error:
            return error
        if mark not in _content(path):
            return f'"{path}" must be a PEM file with "{mark.decode()}" in it'
        try:
            context.load_verify_locations(cafile=path)
        except ssl.SSLError as failure:
            return f'"{path}" cannot be used: {reason_of(failure)}'
    return None


def warn_of_certificate(
    certificate: str, hostnames: Iterable[str] = (), now: float | None = None
) -> list[str]:
    """What deserves a warning about a usable certificate: its time is over, soon over or not yet begun, or it
    does not have one of the `hostnames` (patterns other than exact ones and `*.suffix` are not looked at)."""
    fields = _decode(certificate)
    if not fields:
        return []
    now = time.time() if now is None else now
    warnings = []
    begin = ssl.cert_time_to_seconds(fields["notBefore"])
    end = ssl.cert_time_to_seconds(fields["notAfter"])
    if end < now:
        warnings.append(f'the certificate "{certificate}" expired on {fields["notAfter"]}')
    elif end < now + EXPIRES_SOON:
        warnings.append(f'the certificate "{certificate}" expires on {fields["notAfter"]}')
    if begin > now:
        warnings.append(f'the certificate "{certificate}" is valid only from {fields["notBefore"]}')
    names = {value.lower() for _kind, value in fields.get("subjectAltName", ())}
    for name in hostnames:
        if name == "*" or name.endswith(".*"):
            continue
        if name not in names and "*." + name.partition(".")[2] not in names:
            warnings.append(f'the certificate "{certificate}" does not have the name "{name}"')
    return warnings


def _decode(certificate: str) -> dict[str, Any]:
    """The fields of the first certificate in a PEM file, as `SSLSocket.getpeercert` gives them; {} if
    unknown.

    The function is there for CPython's own tests, in all versions since 2.6; without it there are no
    warnings.
    """
    decode = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)
    try:
        return dict(decode(certificate)) if decode else {}
    except (OSError, ValueError):
        return {}


def _check_readable(path: str) -> str | None:
    try:
        _content(path)
    except OSError as error:
        return f'"{path}" cannot be read: {(error.strerror or str(error)).lower()}'
    return None


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 24)


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words: "no shared cipher", "certificate verify failed: certificate has expired"."""
    reason = (error.reason or error.strerror or str(error)).replace("_", " ").lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{reason}: {error.verify_message}"
    return reason


# What is known of a connection


class ClientCertificate:
    """The verified certificate of a client. Everything but `der` is worked out when it is asked for."""

    def __init__(self, der: bytes, fields: dict[str, Any]) -> None:
        self.der = der
        self._fields = fields

    def __repr__(self) -> str:
        return f"<ClientCertificate {self.subject} serial={self.serial}>"

    @cached_property
    def subject(self) -> str:
        """The subject's name (RFC 4514): "CN=alice,O=Example"."""
        return format_name(self._fields.get("subject", ()))

    @cached_property
    def issuer(self) -> str:
        """The issuer's name (RFC 4514)."""
        return format_name(self._fields.get("issuer", ()))

    @property
    def serial(self) -> str:
        """The serial number in upper-case hex digits."""
        return str(self._fields.get("serialNumber", ""))

    @cached_property
    def not_before(self) -> int:
        """When its time begins, in Unix seconds."""
        return ssl.cert_time_to_seconds(self._fields["notBefore"])

    @cached_property
    def not_after(self) -> int:
        """When its time ends, in Unix seconds."""
        return ssl.cert_time_to_seconds(self._fields["notAfter"])

    @cached_property
    def alt_names(self) -> list[tuple[str, str]]:
        """The alternative names, as ("DNS" | "email" | "URI" | …, name) pairs."""
        return [(str(kind), str(value)) for kind, value in self._fields.get("subjectAltName", ())]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in lower-case hex digits."""
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def pem(self) -> str:
        """The certificate in PEM form."""
        return ssl.DER_cert_to_PEM_cert(self.der)


class TLSInfo:
    """What the handshake of a connection agreed on.

    `version` is "TLSv1.2" or "TLSv1.3", `server_name` the name the client asked for ("" if none), `alpn` the
    protocol chosen ("" if none), `certificate` the client's, None when it gave none: one that is there has
    been verified.
    """

    __slots__ = ("alpn", "certificate", "cipher", "resumed", "server_name", "site", "version")

    def __init__(
        self,
        site: Site,
        server_name: str,
        version: str,
        cipher: str,
        alpn: str,
        resumed: bool,
        certificate: ClientCertificate | None,
    ) -> None:
        self.site = site
        self.server_name = server_name
        self.version = version
        self.cipher = cipher
        self.alpn = alpn
        self.resumed = resumed
        self.certificate = certificate

    def __repr__(self) -> str:
        return f"<TLSInfo {self.version} {self.cipher} server_name={self.server_name!r} alpn={self.alpn!r}>"

    @property
    def verified(self) -> bool:
        """Whether the client proved who it is by a certificate."""
        return self.certificate is not None

    # As variables of conditions and log lines see it: "" without a certificate.

    @property
    def client_subject(self) -> str:
        """The subject of the client's certificate (RFC 4514)."""
        return self.certificate.subject if self.certificate is not None else ""

    @property
    def client_issuer(self) -> str:
        """The issuer of the client's certificate (RFC 4514)."""
        return self.certificate.issuer if self.certificate is not None else ""

    @property
    def client_serial(self) -> str:
        """The serial number of the client's certificate."""
        return self.certificate.serial if self.certificate is not None else ""

    @property
    def client_fingerprint(self) -> str:
        """SHA-256 of the client's certificate."""
        return self.certificate.fingerprint if self.certificate is not None else ""


_SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}


def format_name(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    """A distinguished name as text (RFC 4514): the last part first. Types that the RFC does not name keep
    OpenSSL's name. What is not printable is written in hex, so the text fits into a field or a log line."""
    return ",".join(
        "+".join(f"{_SHORT_NAMES.get(kind, kind)}={_escape(value)}" for kind, value in part)
        for part in reversed(list(name))
    )


def _escape(value: str) -> str:
    escaped = []
    last = len(value) - 1
    for at, char in enumerate(value):
        if char in ',+"\\<>;' or (char == "#" and at == 0) or (char == " " and at in (0, last)):
            escaped.append("\\" + char)
        elif char.isprintable():
            escaped.append(char)
        else:
            escaped.append("".join(f"\\{byte:02X}" for byte in char.encode("utf-8", "surrogatepass")))
    return "".join(escaped)
