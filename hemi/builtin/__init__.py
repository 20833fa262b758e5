"""The components that come with Gorox. Importing this package registers them."""

import hemi.builtin.backends.fcgi_backend
import hemi.builtin.backends.http_backend
import hemi.builtin.backends.scgi_backend
import hemi.builtin.backends.tcpx_backend
import hemi.builtin.backends.uwsgi_backend
import hemi.builtin.dealets.access
import hemi.builtin.dealets.limit
import hemi.builtin.dealets.tcpx_proxy
import hemi.builtin.handlets.access
import hemi.builtin.handlets.app
import hemi.builtin.handlets.basic_auth
import hemi.builtin.handlets.cgi
import hemi.builtin.handlets.favicon
import hemi.builtin.handlets.fcgi_proxy
import hemi.builtin.handlets.forward_auth
import hemi.builtin.handlets.host_checker
import hemi.builtin.handlets.http_proxy
import hemi.builtin.handlets.https_checker
import hemi.builtin.handlets.limit
import hemi.builtin.handlets.redirect
import hemi.builtin.handlets.referer
import hemi.builtin.handlets.rewrite
import hemi.builtin.handlets.scgi_proxy
import hemi.builtin.handlets.static
import hemi.builtin.handlets.uwsgi_proxy
import hemi.builtin.handlets.wsgi
import hemi.builtin.revisers.gzip
import hemi.builtin.revisers.head
import hemi.builtin.routers.tcpx_router
import hemi.builtin.servers.echo_server
import hemi.builtin.servers.socks_server
import hemi.builtin.servers.tunnel_server
import hemi.web.rule
import hemi.web.server
import hemi.web.webapp  # noqa: F401
