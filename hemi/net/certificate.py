"""Certificates as listeners of layer 4 have them: which is for which host names."""

from __future__ import annotations

from collections.abc import Iterator

from hemi.component import Component, prop
from hemi.tls import Identity, check_certificate
from hemi.values import Hostname, Path, Secret


class Certificate(Component, kind="certificates", sign="certificate", nested=True):
    """A certificate, and the host names that clients ask for when they get it."""

    certificate: Path = prop(doc="PEM file with the certificate, and the chain below it.", inherit=False)
    private_key: Path | None = prop(None, "PEM file with its key, if not in the same.", inherit=False)
    password: Secret | None = prop(None, "What the key is encrypted with.", inherit=False)
    hostnames: list[Hostname] = prop(
        ["*"], 'The names it is for; "*" for all others, and clients that name none.', least=1, inherit=False
    )

    @property
    def identity(self) -> Identity:
        """Its files."""
        return Identity(self.certificate, self.private_key or "", self.password or "")

    def check(self) -> Iterator[str | tuple[str, str]]:
        """The files must be usable."""
        one = self.identity
        problem = check_certificate(one.certificate, one.private_key, one.password)
        if problem:
            yield problem
