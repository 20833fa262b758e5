"""Content negotiation: which of the offered representations a client likes best (RFC 9110 §12.5).

Offers are in the server's order of preference: of those that weigh the same, the first one wins.
A missing header (None) accepts everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from hemi.web.fields import parse_parameters, parse_weights

_Weights = tuple[tuple[str, dict[str, str], float], ...]


@lru_cache(256)  # clients of one kind send the same line: 0.1 µs instead of 10
def _weights(header: str) -> _Weights:
    return tuple(parse_weights(header))


def weigh_type(offer: str, header: str | None) -> float:
    """The weight (0.0 to 1.0) that an Accept header gives a media type; 0 is not acceptable.

    The most specific range that matches decides: ``text/html;level=1``, ``text/html``, ``text/*``, ``*/*``
    (RFC 9110 §12.5.1).
    """
    if header is None:
        return 1.0
    wanted = _weights(header)
    if not wanted:
        return 1.0
    name, parameters = parse_parameters(offer)
    kind = name.partition("/")[0] + "/*"
    best_rank, best_weight = 0, 0.0
    for pattern, required, weight in wanted:
        if pattern == name:
            if any(parameters.get(key, "").lower() != value.lower() for key, value in required.items()):
                continue
            rank = 3 + len(required)
        elif pattern == kind:
            rank = 2
        elif pattern in ("*/*", "*"):  # a lone asterisk is what Java's URLConnection sends
            rank = 1
        else:
            continue
        if rank > best_rank:
            best_rank, best_weight = rank, weight
    return best_weight


def best(offered: Sequence[str], header: str | None) -> str | None:
    """The media type of `offered` that an Accept header likes best, or None if it likes none."""
    choice, top = None, 0.0
    for offer in offered:
        weight = weigh_type(offer, header)
        if weight > top:
            choice, top = offer, weight
    return choice


_ALIASES = {"x-gzip": "gzip", "x-compress": "compress"}  # RFC 9110 §8.4.1


def best_coding(offered: Sequence[str], header: str | None) -> str | None:
    """The content coding for a response: one of `offered`, ``identity``, or None.

    None means that the client refuses even ``identity`` (``identity;q=0`` or ``*;q=0``): 406, or send it
    anyway, which RFC 9110 §12.5.3 allows. A client that sends no header gets ``identity``: it accepts all,
    but clients that say nothing are those that cannot decode. A coding wins over an identity of equal weight.
    """
    if header is None:
        return "identity"
    weights: dict[str, float] = {}
    for coding, _, weight in _weights(header):
        weights.setdefault(_ALIASES.get(coding, coding), weight)
    others = weights.get("*", 0.0)
    identity = weights.get("identity", others if "*" in weights else None)
    choice, top = None, 0.0
    for offer in offered:
        weight = weights.get(offer, others)
        if offer != "identity" and weight > top:
            choice, top = offer, weight
    if identity is None:  # not mentioned: acceptable, after everything that is
        return choice or "identity"
    return choice if choice and top >= identity else ("identity" if identity > 0 else None)


def best_language(offered: Sequence[str], header: str | None) -> str | None:
    """The language tag of `offered` that fits an Accept-Language header best, or None.

    A range fits a tag that starts with it (``en`` fits ``en-GB``: basic filtering, RFC 4647 §3.3.1); failing
    that, the range is cut from its end (``de-CH-1996``, ``de-CH``, ``de``: lookup, §3.4), at a small loss.
    """
    if header is None:
        return offered[0] if offered else None
    wanted = _weights(header)
    choice, top = None, 0.0
    for offer in offered:
        weight = _weigh_language(offer.lower(), wanted)
        if weight > top:
            choice, top = offer, weight
    return choice


def _weigh_language(tag: str, wanted: _Weights) -> float:
    best_rank, best_weight = 0, 0.0
    for pattern, _, weight in wanted:
        if pattern == tag or tag.startswith(pattern + "-"):
            rank = 2 + len(pattern)
        elif pattern.startswith(tag + "-"):
            rank, weight = 2, weight - min(weight, 0.0005)  # less than any two weights differ
        elif pattern == "*":
            rank = 1
        else:
            continue
        if rank > best_rank or (rank == best_rank == 2 and weight > best_weight):
            best_rank, best_weight = rank, weight
    return best_weight
