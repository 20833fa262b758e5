"""What proxies of HTTP have in common: one request in, the same request out, and the way back.

    names.py       which fields belong to a connection, which to a message (RFC 9110 §7.6)
    requests.py    the head of the request that goes to a node
    responses.py   the head of the response that goes to the client
    forward.py     one exchange: tries, content both ways, errors
    retries.py     what is tried again, and how often
    spool.py       contents in memory, then on disk
    tunnel.py      bytes both ways, behind a 101
    mirror.py      copies of requests for another backend

Messages are never passed on as they came: they are rebuilt from their parsed form, with one framing (RFC 9112 §11.2).
"""
