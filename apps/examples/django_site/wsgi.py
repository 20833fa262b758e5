"""What the configuration calls. Makes the database on the way, as an example may: real sites migrate when deployed."""

import os

from django.core.wsgi import get_wsgi_application


def create():
    """Makes the app; the user "admin" too, if ADMIN_PASSWORD is in the environment."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_site.settings")
    application = get_wsgi_application()

    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)
    password = os.environ.get("ADMIN_PASSWORD")
    if password and not User.objects.filter(username="admin").exists():
        User.objects.create_superuser("admin", "admin@example.com", password)
    return application
