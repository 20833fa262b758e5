"""Addresses of the example."""

from django.contrib import admin
from django.urls import path

from django_site import views

urlpatterns = [
    path("", views.home),
    path("upload", views.upload),
    path("stream", views.stream),
    path("source", views.source),
    path("admin/", admin.site.urls),
]
