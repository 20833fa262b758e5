"""Serves a WSGI app by gevent.pywsgi: python -m toolkit.benchmarks.pywsgi PORT MODULE:APP."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
from importlib import import_module  # noqa: E402

from gevent.pywsgi import WSGIServer  # noqa: E402

if __name__ == "__main__":
    module, _, name = sys.argv[2].partition(":")
    WSGIServer(
        ("127.0.0.1", int(sys.argv[1])), getattr(import_module(module), name), log=None
    ).serve_forever()
