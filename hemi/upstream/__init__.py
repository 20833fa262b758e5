"""Upstreams: groups of servers that something here is a client of. What HTTP, FastCGI and layer 4 share.

    backend.py     the component: what a configuration says, and its life
    roster.py      which nodes may be used now: tiers, panic, operators' orders, the queue for full nodes
    node.py        one server of the group
    lease.py       what a proxy holds while it uses a node: node and connection, and how it went
    pool.py        idle connections of a node
    sharedpool.py  connections that carry several exchanges at a time
    dial.py        connecting: names, addresses, Unix domain sockets, TLS
    balancers.py   choosing one of several nodes
    breaker.py     learning from failures of real traffic
    checks.py      learning from checks
    http2ask.py    a request by HTTP/2, for checks
    discovery.py   nodes from files and from DNS
    sticky.py      clients that stay with a node

No protocol belongs here but the few lines of HTTP that a health check needs.
"""
