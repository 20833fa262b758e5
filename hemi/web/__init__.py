"""HTTP: what is the same in every version is here, what differs is in ``h1``, ``h2`` and ``h3``."""
