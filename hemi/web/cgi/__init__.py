"""CGI (RFC 3875), and the protocols that carry it: FastCGI, SCGI, uwsgi, and programs of their own.

    variables.py   what a request is to a program: REQUEST_METHOD, HTTP_*, PATH_INFO …
    answer.py      the head of what a program answers: Status, Location …
    reply.py       the answer on its way to the client: buffered or not, local redirects, files
    errorlines.py  what a program writes to stderr, for the error log
    wires.py       sending and receiving at the same time
    handlet.py     what all handlets of this kind share
    gateway.py     what their proxies share: one exchange, tries, timeouts, errors
    process.py     a program that runs: its pipes, its end
    run.py         programs for requests, so many at a time

The codecs are in hemi.library (fcgi, scgi, uwsgi), which know nothing of requests.
"""
