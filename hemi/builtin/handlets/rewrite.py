"""The handlet `rewrite`: another path and query for a request, before other handlets see it, or before the client is
sent there. How targets are made and kept in bounds is in `hemi.web.rewriting`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from hemi.component import prop
from hemi.errors import EnvError, UsageError
from hemi.library.watchedfile import WatchedFile
from hemi.values import Path, Pattern, Template
from hemi.web.errors import HTTPError, SearchAgain
from hemi.web.handlet import Handlet
from hemi.web.rewriting import (
    PathTable,
    Place,
    Target,
    TargetKind,
    edit_query,
    parse_table,
    strip_prefix,
)
from hemi.web.uri import BadTarget

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class Rewrite(Handlet, sign="rewrite"):
    """Gives the request another path or query, and declines: the next handlets and rules see the new one. Logs and apps
    (REQUEST_URI) keep the target that the client asked for.

    Either a pattern (`from`, `to`), a table (`map`, `map_file`) or prefixes decide about the path; what they do not fit
    stays as it is. The changes of the query come last. All text is decoded, as people write it; what groups and
    variables bring is encoded where it is put.
    """

    from_: Pattern | None = prop(
        None, "What the path must match, such as ^/old/(.*); always when missing.", inherit=False
    )
    to: Annotated[Target, TargetKind()] | None = prop(
        None,
        "The new path, maybe with a query: $1 is the first group, $header_host a variable.",
        inherit=False,
    )
    map: dict[str, str] = prop(
        {}, 'New paths by path; "/old/*: /new/*" for all that is below.', inherit=False
    )
    map_file: Path | None = prop(
        None,
        "The same, from a file with a path and its target on each line. Changes count at once.",
        inherit=False,
    )
    strip_prefix: str = prop("", "A prefix to remove, such as /api; other paths stay.", inherit=False)
    add_prefix: str = prop("", "A prefix to put in front.", inherit=False)
    keep_query: bool = prop(
        True, "Keep the query of the request, unless the new path has one of its own.", inherit=False
    )
    delete_query: list[str] = prop([], 'Names to delete from the query; "*" for all.', inherit=False)
    set_query: dict[str, Template] = prop({}, "Values to set in the query.", inherit=False)
    add_query: dict[str, Template] = prop({}, "Values to add to the query.", inherit=False)
    then: Literal["continue", "restart", "redirect"] = prop(
        "continue",
        "Go on with the next handlet and rule, search from the first rule again, or redirect the client.",
        inherit=False,
    )
    code: Literal[301, 302, 303, 307, 308] = prop(302, "The status of the redirection.", inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """One way to the new path, and only redirections to other sites."""
        ways = (
            self.to is not None,
            bool(self.map or self.map_file),
            bool(self.strip_prefix or self.add_prefix),
        )
        if sum(ways) > 1:
            yield "must have only one of to, map and map_file, strip_prefix and add_prefix"
        if not any((*ways, self.delete_query, self.set_query, self.add_query, not self.keep_query)):
            yield "must have something to rewrite"
        if self.from_ is not None and self.to is None:
            yield "from", "needs to"
        if self.to is not None:
            count = self.from_.group_count if self.from_ is not None else 0
            if self.to.highest_group > count:
                yield "to", f"must not have ${self.to.highest_group}: from has {count} groups"
        for name in ("strip_prefix", "add_prefix"):
            prefix = getattr(self, name)
            if prefix and (prefix[0] != "/" or not {".", ".."}.isdisjoint(prefix.split("/"))):
                yield name, f'must be a path such as "/api", not "{prefix}"'
        yield from self._check_tables()

    def _check_tables(self) -> Iterator[str | tuple[str, str]]:
        has_site = self.to is not None and self.to.has_site
        try:
            has_site = has_site or PathTable(self.map).has_site
        except ValueError as error:
            yield "map", str(error)
        if self.map and self.map_file is not None:
            yield "must have either map or map_file"
        if self.map_file is not None:
            try:
                self._watch(self.map_file)
            except ValueError as error:
                yield "map_file", f"{self.map_file} is not usable: {error}"
            except OSError as error:
                yield "map_file", f"cannot be read: {self.map_file}: {error.strerror}"
        if has_site and self.then != "redirect":
            yield "then", "must be redirect: other sites can only be redirected to"

    def _parse_file(self, text: str) -> PathTable:
        table = parse_table(text)
        if table.has_site and self.then != "redirect":
            raise ValueError("other sites can only be redirected to")
        return table

    def _watch(self, path: str) -> WatchedFile[PathTable]:
        return WatchedFile(path, self._parse_file, lambda message: self.stage.log.error("rewrite", message))

    def prepare(self) -> None:
        """Builds the tables. Raises EnvError or UsageError when the file has become unusable by now."""
        self._table = PathTable(self.map) if self.map else None
        self._drop = frozenset((*self.delete_query, *self.set_query))
        self._add = (*self.set_query.items(), *self.add_query.items())
        try:
            self._file = self._watch(self.map_file) if self.map_file is not None else None
        except ValueError as error:
            raise UsageError(f"{self.map_file} is not usable: {error}") from error
        except OSError as error:
            raise EnvError(f"cannot read {self.map_file}: {error.strerror}") from error

    def handle(self, req: Request, resp: Response) -> bool:
        """Rewrites, and declines or redirects. Raises HTTPError 400 for a request that would climb out."""
        if req.path[:1] != "/":
            return False  # OPTIONS *
        place = self._place(req)
        if place is None:
            return False
        query = place.query
        if query is None:
            query = req.query_string if self.keep_query else ""
        if self._drop or self._add:
            values = [(name, template(req)) for name, template in self._add]
            query = edit_query(query, self._drop, [pair for pair in values if pair[1]])
        try:
            if self.then == "redirect":
                return self._redirect(req, resp, place, query)
            before = req.path, req.query_string
            unchanged = place.path == req.path
            req.rewrite(req.raw_path if unchanged else place.raw_path().encode("ascii"), query)
        except BadTarget as error:
            raise HTTPError(400, f"The path is not usable: {error}.") from error
        if self.then == "restart" and before != (req.path, query):
            raise SearchAgain
        return False

    def _place(self, req: Request) -> Place | None:
        path = req.path
        if self.to is not None:
            groups: tuple[str, ...] | None = ("",)
            if self.from_ is not None:
                groups = self.from_.groups(path)
                if groups is not None and self.to.highest_group and not _is_text(path):
                    raise HTTPError(400, "The path is not UTF-8.")  # the groups would not be what came
            return self.to(req, groups) if groups is not None else None
        if self._table is not None:
            return self._table.find(path)
        if self._file is not None:
            return self._file.get().find(path)
        if self.strip_prefix:
            rest = strip_prefix(path, self.strip_prefix)
            if rest is None:
                return None
            path = rest
        return Place("", self.add_prefix + path if self.add_prefix else path, None)

    def _redirect(self, req: Request, resp: Response, place: Place, query: str) -> bool:
        path = place.raw_path()  # never as it came: "//evil.example" would be another site
        if not place.site and (place.path, query) == (req.path, req.query_string):
            return False  # the client would ask for the same for ever
        resp.redirect(f"{place.site}{path}?{query}" if query else place.site + path, self.code)
        return True


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
