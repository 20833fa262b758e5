"""Limits of requests that webapps set and rules override."""

from __future__ import annotations

from hemi.component import Component, prop
from hemi.values import Size
from hemi.web.forms import FormLimits


class Limited(Component):
    """What webapps and rules have in common: how much of a request they take."""

    max_content_size: Size = prop("1G", "The largest content of a request; more is answered with 413.")
    max_memory_content_size: Size = prop(
        "16M", "The largest content that an app may load into memory as a whole."
    )
    max_form_fields: int = prop(1000, "The most fields of a form.", least=1)
    max_form_files: int = prop(128, "The most files of a multipart form.", least=0)
    max_form_field_size: Size = prop("1M", "The largest value of a form field.", least=1)
    max_form_file_size: Size = prop("1G", "The largest file of a multipart form.", least=1)
    spool_size: Size = prop("256K", "Uploaded files larger than this are kept on disk, below tmp_dir.")

    def form_limits(self) -> FormLimits:
        """The limits of forms, for the parser."""
        return FormLimits(
            max_parts=self.max_form_fields + self.max_form_files,
            max_fields=self.max_form_fields,
            max_files=self.max_form_files,
            max_field_size=self.max_form_field_size,
            max_memory=self.max_memory_content_size,
            max_file_size=self.max_form_file_size,
            max_total=self.max_content_size,
            spool_size=self.spool_size,
        )
