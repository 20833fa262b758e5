"""HTTP/2 of servers (RFC 9113, 7541, 8441, 9218): frames, streams, flow control and priorities on a connection."""
