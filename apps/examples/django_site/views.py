"""Views of the example."""

from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt


def home(request):
    """A page with a session."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"hello, you were here {request.session['visits']} times\n")


@csrf_exempt
def upload(request):
    """Tells how large the uploaded files are."""
    return JsonResponse({name: file.size for name, file in request.FILES.items()})


def stream(request):
    """A response in pieces."""
    return StreamingHttpResponse((f"line {number}\n" for number in range(1000)), content_type="text/plain")


def source(request):
    """A file, by sendfile."""
    return FileResponse(open(__file__, "rb"), content_type="text/x-python")  # Django closes it
