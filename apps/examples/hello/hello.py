"""A small API and a page with Gorox's own framework. Run it: gorox --config conf/examples/hello.yaml"""

from hemi.web.framework import App, abort

app = App(templates="templates")
notes: dict[int, str] = {1: "buy milk"}


@app.get("/")
def home(req):
    return app.render("home.html", notes=notes, name=req.query("name", "world"))


@app.get("/notes/<int:id>")
def read(req, id):
    return {"id": id, "text": notes[id]} if id in notes else abort(404, "There is no such note.")


@app.post("/notes")
def write(req):
    id = max(notes, default=0) + 1
    notes[id] = str(req.json().get("text", ""))
    return {"id": id}, 201, {"location": app.url_for(read, id=id)}


@app.delete("/notes/<int:id>")
def remove(req, id):
    return (b"", 204) if notes.pop(id, None) else abort(404)
