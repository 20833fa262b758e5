"""Sticky sessions: a client brings a tag, and the tag belongs to a node.

The tag is an HMAC of the node's address under a secret: it tells nobody the address, nobody else can make
one, and every worker and machine with the same secret makes the same. Cookies that carry it belong to the
proxies.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

__all__ = ["LEAST_SECRET", "make_tag"]

LEAST_SECRET = 16
"""Characters that a secret must have."""


def make_tag(secret: str, backend: str, node: str) -> str:
    """The tag of a node: 22 characters of A-Z a-z 0-9 - _, fit for a cookie's value."""
    digest = hmac.digest(secret.encode(), f"{backend}\0{node}".encode(), "sha256")
    return urlsafe_b64encode(digest[:16]).decode("ascii").rstrip("=")
