"""Media types by file name suffix.

A table of our own, and not `mimetypes`: what that says depends on files of the machine, and a browser
refuses a module script or a WebAssembly file of the wrong type. The IANA registry decides; where browsers
want another type (RFC 9239 for scripts, the WHATWG's for fonts and icons), theirs is used.

Text types go out as UTF-8. XML, SVG and JSON get no charset: they say it themselves, or need not
(RFC 7303, RFC 8259).
"""

from __future__ import annotations

from collections.abc import Mapping

_BY_TYPE = {
    # text
    "text/html": "html htm shtml",
    "text/css": "css",
    "text/javascript": "js mjs cjs jsx",
    "text/plain": "txt text log conf cfg ini toml diff patch",
    "text/markdown": "md markdown",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "text/calendar": "ics",
    "text/vcard": "vcf vcard",
    "text/vtt": "vtt",
    "text/cache-manifest": "appcache",
    "text/x-component": "htc",
    "text/x-python": "py",
    "text/x-rst": "rst",
    # data
    "application/json": "json map",
    "application/ld+json": "jsonld",
    "application/geo+json": "geojson",
    "application/manifest+json": "webmanifest",
    "application/schema+json": "jsonschema",
    "application/x-ndjson": "ndjson jsonl",
    "application/xml": "xml xsl xsd dtd",
    "application/xslt+xml": "xslt",
    "application/xhtml+xml": "xhtml xht",
    "application/rss+xml": "rss",
    "application/atom+xml": "atom",
    "application/gpx+xml": "gpx",
    "application/vnd.google-earth.kml+xml": "kml",
    "application/vnd.google-earth.kmz": "kmz",
    "application/mathml+xml": "mathml mml",
    "application/yaml": "yaml yml",
    "application/sql": "sql",
    "application/graphql": "graphql gql",
    "application/cbor": "cbor",
    "application/protobuf": "pb",
    "application/vnd.sqlite3": "sqlite sqlite3",
    "application/vnd.apache.parquet": "parquet",
    "application/wasm": "wasm",
    # images
    "image/png": "png",
    "image/apng": "apng",
    "image/jpeg": "jpg jpeg jpe jfif",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/jxl": "jxl",
    "image/svg+xml": "svg",
    "image/x-icon": "ico cur",
    "image/bmp": "bmp",
    "image/tiff": "tif tiff",
    "image/vnd.adobe.photoshop": "psd",
    # sound
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/ogg": "ogg oga opus",
    "audio/flac": "flac",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "audio/midi": "mid midi",
    "audio/mpegurl": "m3u",
    # films
    "video/mp4": "mp4 m4v",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "video/mpeg": "mpg mpeg",
    "video/quicktime": "mov qt",
    "video/x-msvideo": "avi",
    "video/matroska": "mkv",
    "video/x-flv": "flv",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "3gp",
    "video/mp2t": "ts",
    "video/iso.segment": "m4s",
    "application/vnd.apple.mpegurl": "m3u8",
    "application/dash+xml": "mpd",
    # fonts
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
    "font/collection": "ttc",
    "application/vnd.ms-fontobject": "eot",
    # three dimensions
    "model/gltf+json": "gltf",
    "model/gltf-binary": "glb",
    "model/obj": "obj",
    "model/stl": "stl",
    "model/vnd.usdz+zip": "usdz",
    # documents
    "application/pdf": "pdf",
    "application/postscript": "ps eps ai",
    "application/rtf": "rtf",
    "application/epub+zip": "epub",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.graphics": "odg",
    # archives and programs
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/x-bzip2": "bz2",
    "application/x-xz": "xz",
    "application/zstd": "zst",
    "application/x-tar": "tar",
    "application/x-7z-compressed": "7z",
    "application/vnd.rar": "rar",
    "application/java-archive": "jar war",
    "application/vnd.android.package-archive": "apk",
    "application/vnd.debian.binary-package": "deb",
    "application/x-rpm": "rpm",
    "application/x-apple-diskimage": "dmg",
    "application/x-iso9660-image": "iso",
    "application/x-msdownload": "exe dll msi",
    "application/x-sh": "sh",
    "application/octet-stream": "bin img dat",
    # keys and signatures
    "application/x-x509-ca-cert": "crt der pem",
    "application/pkcs10": "csr",
    "application/pgp-signature": "sig asc",
    "application/x-bittorrent": "torrent",
}


def with_charset(media_type: str) -> str:
    """The type with ``; charset=utf-8`` behind it if it is a text type without parameters."""
    if media_type.startswith("text/") and ";" not in media_type:
        return media_type + "; charset=utf-8"
    return media_type


TYPES: dict[str, str] = {
    suffix: with_charset(media_type)
    for media_type, suffixes in _BY_TYPE.items()
    for suffix in suffixes.split()
}
"""Content-Type by suffix: lower case, without the dot."""

DEFAULT = "application/octet-stream"


def type_of(path: str, extra: Mapping[str, str] | None = None, default: str = DEFAULT) -> str:
    """The Content-Type for a file, by the suffix of its name; `default` if that is unknown or there is none.

    `extra` has types by suffix (lower case, without the dot) that go before ours, with their charset if any.
    """
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    if dot <= 0:  # no suffix, or a dotfile
        return default
    suffix = name[dot + 1 :].lower()
    if extra is not None and suffix in extra:
        return extra[suffix]
    return TYPES.get(suffix, default)
