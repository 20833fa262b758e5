"""Layer 4: connections of which no protocol but TLS is understood, and where they go.

    listening.py    what listens on TCP, TLS and Unix domain sockets: addresses, certificates, PROXY protocol
    certificate.py  a certificate with the host names that it is for
    gate.py         a listening socket with the connections that came through it
    conn.py         one connection, and what a case may ask of it
    proxied.py      the PROXY header that tells a node who its client is
    router.py       the kind: cases, tried in order
    case.py         a condition, and the dealets to run when it holds
    dealet.py       the kind: deals with a connection, or declines
    relay.py        bytes both ways between two channels
    rules.py        who may go where through a forward proxy
    socks.py        SOCKS on the wire
    udplistening.py what takes datagrams on UDP and Unix domain sockets: addresses, PROXY protocol
    udpgate.py      a listening socket with the sessions that began there
    udpconn.py      a session: the datagrams of one source, and the answers to it
    udpport.py      datagrams and the addresses they come to and leave from
    variables.py    the $variables of conditions, templates and log formats

What is spoken on the connections belongs elsewhere.
"""
