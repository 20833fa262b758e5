"""A Django site: admin, sessions in SQLite, an upload and a stream. See conf/examples/django.yaml."""
