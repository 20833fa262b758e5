"""Flame graphs: an SVG picture of sampled stacks, in which the width of a box is the time of a function.

One file without anything from elsewhere: a click zooms in, a click on the base zooms out, and a search paints what
matches. Without scripts it is still a picture, with the names as tooltips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from html import escape

__all__ = ["collapse", "render"]

Stack = tuple[str, ...]

WIDTH = 1200
ROW = 18
MARGIN = 12
TOP = 62
LEAST = 0.0006
"""The share of the whole below which a box is left out: less than a pixel."""

LETTER = 6.6
"""The width of a letter of the font, in pixels."""


def collapse(stacks: Mapping[Stack, int]) -> str:
    """Collapsed stacks, one a line: "outer;inner 12", as other tools read them."""
    lines = [
        f"{';'.join(name.replace(';', ':') for name in stack)} {count}" for stack, count in stacks.items()
    ]
    return "\n".join(sorted(lines)) + "\n" if lines else ""


class _Box:
    """A function called in one way: `count` samples, its callees by name."""

    __slots__ = ("callees", "count", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.callees: dict[str, _Box] = {}


def render(stacks: Mapping[Stack, int], title: str, subtitle: str = "", unit: str = "samples") -> str:
    """The SVG. `stacks` are the samples by stack, the outermost function first."""
    base = _Box("all")
    for stack, count in stacks.items():
        box = base
        box.count += count
        for name in stack:
            box = box.callees.setdefault(name, _Box(name))
            box.count += count
    boxes: list[str] = []
    depth = _draw(base, boxes, 0.0, 0, max(base.count, 1), unit)
    height = TOP + (depth + 1) * ROW + MARGIN
    return _PAGE.format(
        width=WIDTH,
        height=height,
        middle=WIDTH // 2,
        right=WIDTH - MARGIN,
        title=escape(title),
        subtitle=escape(subtitle),
        margin=MARGIN,
        inner=WIDTH - 2 * MARGIN,
        letter=LETTER,
        boxes="\n".join(boxes),
    )


def _draw(box: _Box, boxes: list[str], start: float, depth: int, total: int, unit: str) -> int:
    """Draws a box and those of its callees, which lie below it; returns the greatest depth."""
    share = box.count / total
    inner = WIDTH - 2 * MARGIN
    x, w, y = MARGIN + start * inner, max(share * inner - 0.5, 0.3), TOP + depth * ROW
    name = escape(box.name, quote=True)
    text = _fit(box.name, int((w - 6) / LETTER))
    boxes.append(
        f'<g class="b" data-n="{name}" data-s="{start:.6f}" data-w="{share:.6f}">'
        f"<title>{name}\n{box.count} {unit}, {share:.2%}</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{w:.1f}" height="{ROW - 1}" rx="2" fill="{_colour(box.name)}"/>'
        f'<text x="{x + 4:.1f}" y="{y + 12.5}">{escape(text)}</text></g>'
    )
    deepest = depth
    for callee in sorted(box.callees.values(), key=lambda each: each.name):
        if callee.count / total >= LEAST:
            deepest = max(deepest, _draw(callee, boxes, start, depth + 1, total, unit))
        start += callee.count / total
    return deepest


def _fit(name: str, letters: int) -> str:
    """As much of a dotted name as fits: its end tells more than its beginning."""
    while len(name) > letters and "." in name:
        name = name.partition(".")[2]
    if len(name) <= letters:
        return name
    return name[: letters - 1] + "…" if letters > 3 else ""


def _colour(name: str) -> str:
    """One hue a package, a shade a function: what belongs together looks alike."""
    if name == "all":
        return "#d8dde3"
    package = name.split(".")[0] if not name.startswith("hemi.") else ".".join(name.split(".")[:2])
    hue = int.from_bytes(hashlib.md5(package.encode(), usedforsecurity=False).digest()[:2], "big") % 360
    shade = hashlib.md5(name.encode(), usedforsecurity=False).digest()[0] % 14
    return f"hsl({hue} 62% {66 + shade}%)"


_PAGE = """\
<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<style>
text {{ font: 11px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1d2733; }}
.b text {{ pointer-events: none; }}
.b rect {{ cursor: pointer; stroke: #ffffff; stroke-width: .5; }}
.b:hover rect {{ stroke: #1d2733; stroke-width: 1; }}
.b.found rect {{ fill: #d6409f; }}
.b.found text {{ fill: #ffffff; }}
.b.faded rect {{ opacity: .45; }}
.title {{ font: 600 16px system-ui, sans-serif; }}
.subtitle, .link {{ font: 12px system-ui, sans-serif; fill: #5b6875; }}
.link {{ cursor: pointer; text-decoration: underline; }}
</style>
<rect width="100%" height="100%" fill="#fafbfc"/>
<text class="title" x="{margin}" y="26">{title}</text>
<text class="subtitle" x="{margin}" y="46">{subtitle}</text>
<text class="link" id="search" x="{right}" y="26" text-anchor="end">search</text>
<text class="subtitle" id="told" x="{right}" y="46" text-anchor="end"></text>
<g id="boxes">
{boxes}
</g>
<script><![CDATA[
(function () {{
  var margin = {margin}, inner = {inner}, letter = {letter};
  var boxes = Array.prototype.slice.call(document.querySelectorAll(".b"));
  var told = document.getElementById("told");
  function zoom(box) {{
    var s = +box.dataset.s, w = +box.dataset.w, e = 1e-5;
    boxes.forEach(function (b) {{
      var bs = +b.dataset.s, bw = +b.dataset.w;
      var above = bs <= s + e && bs + bw >= s + w - e && bw > w - e;
      var x = Math.max(0, (bs - s) / w), end = Math.min(1, (bs + bw - s) / w);
      var hidden = !above && (bs + e < s || bs + bw > s + w + e) || end <= x;
      b.style.display = hidden ? "none" : "";
      b.classList.toggle("faded", above && bw > w + e);
      if (hidden) return;
      var r = b.querySelector("rect"), t = b.querySelector("text"), n = b.dataset.n;
      var px = Math.max((end - x) * inner - 0.5, 0.3), fit = Math.floor((px - 6) / letter);
      r.setAttribute("x", margin + x * inner);
      r.setAttribute("width", px);
      t.setAttribute("x", margin + x * inner + 4);
      while (n.length > fit && n.indexOf(".") >= 0) n = n.slice(n.indexOf(".") + 1);
      t.textContent = n.length <= fit ? n : fit > 3 ? n.slice(0, fit - 1) + "…" : "";
    }});
  }}
  boxes.forEach(function (b) {{ b.addEventListener("click", function () {{ zoom(b); }}); }});
  document.getElementById("search").addEventListener("click", function () {{
    var word = prompt("Paint functions whose name contains:");
    var hits = [];
    boxes.forEach(function (b) {{
      var hit = !!word && b.dataset.n.indexOf(word) >= 0;
      b.classList.toggle("found", hit);
      if (hit) hits.push([+b.dataset.s, +b.dataset.w]);
    }});
    hits.sort(function (a, b) {{ return a[0] - b[0] || b[1] - a[1]; }});
    var sum = 0, end = 0;
    hits.forEach(function (h) {{
      var from = Math.max(h[0], end);
      if (h[0] + h[1] > from) {{ sum += h[0] + h[1] - from; end = h[0] + h[1]; }}
    }});
    told.textContent = word ? "“" + word + "”: " + (sum * 100).toFixed(1) + " %" : "";
  }});
}})();
]]></script>
</svg>
"""
