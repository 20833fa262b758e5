"""Patches as a serving process does. Loaded by -p in setup.cfg, because pytest's other plugins import ssl."""

import gevent
from gevent import monkey

monkey.patch_all()
gevent.config.track_greenlet_tree = False
