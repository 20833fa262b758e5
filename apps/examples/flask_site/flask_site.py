"""A small Flask site. Run it: gorox --config conf/examples/flask.yaml"""

import os
import time

from flask import Flask, Response, request, session


def create() -> Flask:
    """Makes the app; the configuration calls it."""
    app = Flask(__name__)
    app.secret_key = os.environ["FLASK_SECRET_KEY"]

    @app.get("/")
    def home() -> str:
        session["visits"] = session.get("visits", 0) + 1
        return f"hello, you were here {session['visits']} times\n"

    @app.post("/upload")
    def upload() -> dict[str, int]:
        return {name: len(file.read()) for name, file in request.files.items()}

    @app.get("/events")
    def events() -> Response:
        def stream():
            for number in range(3):
                yield f"data: {number}\n\n"
                time.sleep(0.1)

        return Response(stream(), content_type="text/event-stream")

    return app
