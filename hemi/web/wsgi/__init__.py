"""WSGI (PEP 3333): the environ, the input and the reply of an exchange. The handlet is `hemi.builtin.handlets.wsgi`."""
