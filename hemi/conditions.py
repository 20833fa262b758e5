"""Conditions and templates: texts with `$variables`, compiled to one Python function each.

    $path ^= ("/api/", "/v1/") and not ($method == "TRACE")
    $src_host in ("10.0.0.0/8", "::1") or $path -f

A comparison is `$name OP pattern`. A pattern is a quoted text, a number, true or false, or a list of these in
parentheses: one that matches is enough, and for a negated operator none may match. Inside of quotes, \\" \\'
\\\\ \\n \\t stand for themselves, and any other backslash is kept, so that regular expressions read as they
are.

    == ^= $= *= ~=     equal, prefix, suffix, contains, regular expression; negated != !^ !$ !* !~
    in, not in         an address against networks, a time of day against ranges such as "22:00-06:00"
    -f -d -e           a file, a folder, either, at $path; the web root itself does not count
    -D -E              the same, the web root included; !f !d !e are the negations of -f, -D, -E

`not` binds closer than `and`, `and` closer than `or`. In a template, `$name` is the variable and `$$` a
dollar sign; `$(name)` may be written where letters follow.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, Protocol

from hemi.errors import Place
from hemi.patterns import Pattern, PatternError

MAX_LENGTH = 8192  # characters of a condition
MAX_DEPTH = 40  # parentheses and negations inside of each other


class ConditionError(ValueError):
    """A text that does not compile. `column` counts characters from 1."""

    def __init__(self, message: str, column: int = 1) -> None:
        self.message = message
        self.column = column
        super().__init__(message)


@dataclass(frozen=True)
class Scope:
    """The variables that a condition or template may use.

    An expression is Python, speaks of its subject as `s`, and gives a str. The expression of a prefix has
    {name!r} where the rest of the variable's name goes: "header_" -> "s.header_text({name!r})".
    """

    name: str
    variables: dict[str, str]
    prefixes: dict[str, str] = field(default_factory=dict)
    networks: frozenset[str] | set[str] = frozenset()  # the variables that hold addresses
    file_tests: str | None = None  # the expression of the file system path of $path; may give None or ""
    dashed: frozenset[str] = frozenset(("header_",))  # prefixes whose names have "-" for "_"
    times: frozenset[str] = frozenset()  # those that hold a time of day, as "HH:MM"

    def expression(self, name: str) -> str | None:
        """The expression of a variable, or None when there is no such variable."""
        found = self.variables.get(name)
        if found is not None:
            return found
        for prefix, expression in self.prefixes.items():
            rest = name.removeprefix(prefix)
            if rest and rest != name:
                return expression.format(name=rest.replace("_", "-") if prefix in self.dashed else rest)
        return None

    def names(self) -> list[str]:
        """All variables, prefixes with NAME behind them."""
        return [*self.variables, *(f"{prefix}NAME" for prefix in self.prefixes)]


class CompiledCondition(Protocol):
    """A condition, to be called with its subject."""

    text: str

    def __call__(self, subject: Any, /) -> bool: ...


class CompiledTemplate(Protocol):
    """A template, to be called with its subject. `constant` is the text when no variable is in it."""

    text: str
    constant: str | None

    def __call__(self, subject: Any, /) -> str: ...


def compile_condition(text: str, scope: Scope | None, place: Place | None = None) -> CompiledCondition:
    """Compiles a condition; raises ConditionError. `place` names the code in tracebacks."""
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"it has more than {MAX_LENGTH} characters")
    parser = _Parser(text, scope or _NOTHING)
    condition: CompiledCondition = _make(parser.parse(), parser.constants, text, place)
    return condition


def compile_template(text: str, scope: Scope | None, place: Place | None = None) -> CompiledTemplate:
    """Compiles a template; raises ConditionError."""
    pieces: list[str] = []
    constants: dict[str, Any] = {}
    literal = ""
    scope = scope or _NOTHING
    for part, name, column in _template_parts(text):
        if not name:
            literal += part
            continue
        if literal:
            pieces.append(repr(literal))
            literal = ""
        pieces.append(_variable(name, scope, column, "write $$ for a dollar sign"))
    if not pieces:
        template = _make(repr(literal), constants, text, place)
        template.constant = literal
        return template  # type: ignore[no-any-return]
    if literal:
        pieces.append(repr(literal))
    code = f"str({pieces[0]})" if len(pieces) == 1 else f"''.join(({', '.join(pieces)}))"
    template = _make(code, constants, text, place)
    template.constant = None
    return template  # type: ignore[no-any-return]


def _make(code: str, constants: dict[str, Any], text: str, place: Place | None) -> Any:
    namespace = {"__builtins__": {}, "str": str, **constants}
    function: Any = eval(compile(f"lambda s: {code}", str(place or "<condition>"), "eval"), namespace)
    function.text = text
    return function


_TEMPLATE = re.compile(r"\$\$|\$([A-Za-z_][A-Za-z0-9_]*)|\$\(([A-Za-z_][A-Za-z0-9_]*)\)|[^$]+|\$")


def _template_parts(text: str) -> Iterator[tuple[str, str, int]]:
    for match in _TEMPLATE.finditer(text):
        name = match[1] or match[2] or ""
        yield ("$" if match[0] == "$$" else match[0]), name, match.start() + 1


def _variable(name: str, scope: Scope, column: int, hint: str = "") -> str:
    expression = scope.expression(name)
    if expression is not None:
        return expression
    from hemi.values.base import suggestion  # not at the top: hemi.values imports this module

    if not scope.variables and not scope.prefixes:
        raise ConditionError(f"there is no variable ${name}: nothing has variables here", column)
    near = suggestion(f"${name}", [f"${one}" for one in scope.names()]) or (f"; {hint}" if hint else "")
    raise ConditionError(f"there is no variable ${name}{near}", column)


_NOTHING = Scope("nothing", {})


class _Token(NamedTuple):
    type: str  # variable, text, operator, word, punctuation, end
    value: str
    column: int


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<variable>\$[A-Za-z_][A-Za-z0-9_]*)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<operator>[=^$*~]=|![=^$*~]|-[fdeDE](?![\w-])|![fde](?!\w))
    | (?P<number>-?[0-9]+(?:\.[0-9]+)*(?![\w.]))
    | (?P<word>[A-Za-z_][\w-]*)
    | (?P<punctuation>[(),])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {'\\"': '"', "\\'": "'", "\\\\": "\\", "\\n": "\n", "\\t": "\t"}
_HINTS = {
    "&": 'write "and"',
    "|": 'write "or"',
    "!": 'write "not"',
    '"': "a quote is not closed",
    "'": "a quote is not closed",
}
_FILE_TESTS = {"-f", "-d", "-e", "-D", "-E", "!f", "!d", "!e"}


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while True:
        match = _TOKEN.match(text, position)
        if match is None:
            while text[position].isspace():
                position += 1
            character = text[position]
            hint = _HINTS.get(character)
            raise ConditionError(hint or f"{character!r} has no meaning here", position + 1)
        kind = str(match.lastgroup)
        yield _Token("text" if kind == "number" else kind, match[kind], match.start(kind) + 1)
        if kind == "end":
            return
        position = match.end()


class _Parser:
    """Recursive descent, from tokens to the code of one expression."""

    def __init__(self, text: str, scope: Scope) -> None:
        self.constants: dict[str, Any] = {}
        self._scope = scope
        self._tokens = _tokens(text)
        self._next = next(self._tokens)
        self._depth = 0
        self._locals = 0

    def parse(self) -> str:
        code = self._either()
        if self._next.type != "end":
            self._fail(f'"and", "or" or the end must follow, not {_spell(self._next)}')
        return code

    def _take(self) -> _Token:
        token = self._next
        if token.type != "end":
            self._next = next(self._tokens)
        return token

    def _fail(self, message: str, token: _Token | None = None) -> NoReturn:
        raise ConditionError(message, (token or self._next).column)

    def _either(self) -> str:
        codes = [self._both()]
        while self._next.type == "word" and self._next.value == "or":
            self._take()
            codes.append(self._both())
        return codes[0] if len(codes) == 1 else f"({' or '.join(codes)})"

    def _both(self) -> str:
        codes = [self._negation()]
        while self._next.type == "word" and self._next.value == "and":
            self._take()
            codes.append(self._negation())
        return codes[0] if len(codes) == 1 else f"({' and '.join(codes)})"

    def _negation(self) -> str:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"it is nested more than {MAX_DEPTH} deep")
        if self._next.type == "word" and self._next.value == "not":
            self._take()
            code = f"(not {self._negation()})"
        elif self._next.value == "(" and self._next.type == "punctuation":
            opening = self._take()
            code = self._either()
            if self._next.value != ")":
                self._fail('")" is missing', opening if self._next.type == "end" else None)
            self._take()
        else:
            code = self._comparison()
        self._depth -= 1
        return code

    def _comparison(self) -> str:
        variable = self._take()
        if variable.type != "variable":
            self._fail(f"a $variable must stand here, not {_spell(variable)}", variable)
        name = variable.value[1:]
        subject = _variable(name, self._scope, variable.column)
        operator = self._take()
        if operator.value in ("in", "not") and operator.type == "word":
            return self._membership(name, subject, operator)
        if operator.type != "operator":
            self._fail(f"an operator such as == must follow ${name}, not {_spell(operator)}", operator)
        if operator.value in _FILE_TESTS:
            return self._file_test(name, operator)
        return self._compare(subject, operator.value)

    def _patterns(self) -> list[_Token]:
        if self._next.value != "(" or self._next.type != "punctuation":
            return [self._pattern()]
        self._take()
        patterns = [self._pattern()]
        while self._next.value == ",":
            self._take()
            if self._next.value == ")":
                break
            patterns.append(self._pattern())
        if self._next.value != ")" or self._next.type != "punctuation":
            self._fail(f'"," or ")" must follow, not {_spell(self._next)}')
        self._take()
        return patterns

    def _pattern(self) -> _Token:
        token = self._take()
        if token.type == "word" and token.value in ("true", "false"):
            return token
        if token.type == "word":
            self._fail(f'a text must be quoted, as "{token.value}"', token)
        if token.type != "text":
            self._fail(f"a quoted text must stand here, not {_spell(token)}", token)
        return token._replace(value=_unquote(token.value))

    def _constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def _compare(self, subject: str, operator: str) -> str:
        patterns = self._patterns()
        negated = operator[0] == "!"
        sign = operator[1] if negated else operator[0]
        if sign != "=":
            for pattern in patterns:
                if not pattern.value:
                    self._fail("this pattern must not be empty: it matches everything", pattern)
        texts = tuple(pattern.value for pattern in patterns)
        if sign == "=":
            if len(texts) == 1:
                return f"({subject} {'!=' if negated else '=='} {self._constant(texts[0])})"
            return f"({subject} {'not in' if negated else 'in'} {self._constant(frozenset(texts))})"
        code = self._match(subject, sign, texts, patterns)
        return f"(not {code})" if negated else code

    def _match(self, subject: str, sign: str, texts: tuple[str, ...], patterns: list[_Token]) -> str:
        if sign in "^$":
            method = "startswith" if sign == "^" else "endswith"
            return f"{subject}.{method}({self._constant(texts if len(texts) > 1 else texts[0])})"
        if sign == "*":
            return self._any(subject, [f"({self._constant(text)} in {{}})" for text in texts])
        searches = [self._regexp(pattern) for pattern in patterns]
        return self._any(subject, [f"{self._constant(search)}({{}})" for search in searches])

    def _any(self, subject: str, forms: list[str]) -> str:
        """Any of several tests of one subject, which is evaluated once."""
        if len(forms) == 1:
            return forms[0].format(subject)
        local = f"v{self._locals}"
        self._locals += 1
        first = forms[0].format(f"({local} := {subject})")
        return "(" + " or ".join([first, *(form.format(local) for form in forms[1:])]) + ")"

    def _regexp(self, pattern: _Token) -> Callable[[str], bool]:
        try:
            return Pattern(pattern.value).search
        except PatternError as error:
            self._fail(f"{pattern.value!r} is not a regular expression: {error}", pattern)

    def _membership(self, name: str, subject: str, operator: _Token) -> str:
        negated = operator.value == "not"
        if negated:
            word = self._take()
            if word.value != "in":
                self._fail(f'"in" must follow "not", not {_spell(word)}', word)
        if name in self._scope.times:
            members: Networks | Times = Times()
            what = "a range of times such as 08:00-18:00"
        elif name in self._scope.networks:
            members, what = Networks(), "a network such as 10.0.0.0/8"
        else:
            known = ", ".join(f"${one}" for one in sorted(self._scope.networks)) or "none here"
            self._fail(f'"in" is for variables that hold addresses ({known}), not for ${name}', operator)
        for pattern in self._patterns():
            try:
                members.add(pattern.value)
            except ValueError:
                self._fail(f'"{pattern.value}" is not {what}', pattern)
        code = f"{self._constant(members)}({subject})"
        return f"(not {code})" if negated else code

    def _file_test(self, name: str, operator: _Token) -> str:
        if name != "path" or self._scope.file_tests is None:
            where = "$path" if self._scope.file_tests is not None else "nothing here"
            self._fail(f"{operator.value} is for {where}, not for ${name}", operator)
        letter = operator.value[1]
        test = {"f": _is_file, "d": _is_folder, "e": _exists}[letter.lower()]
        code = f"{self._constant(test)}({self._scope.file_tests})"
        if operator.value[0] == "!":
            return f"(not {code})"
        if letter in "de":
            return f"({self._scope.expression('path')} != '/' and {code})"
        return code


def _unquote(text: str) -> str:
    if text[0] not in "\"'":
        return text
    return re.sub(r"\\.", lambda match: _ESCAPES.get(match[0], match[0]), text[1:-1], flags=re.DOTALL)


def _spell(token: _Token) -> str:
    return "the end" if token.type == "end" else token.value


class Networks:
    """A set of networks and addresses; called with an address, tells whether it is inside."""

    def __init__(self) -> None:
        self._hosts: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._known: dict[str, bool] = {}

    def add(self, text: str) -> None:
        """Adds a network or an address; raises ValueError."""
        network = ipaddress.ip_network(text)
        if network.prefixlen == network.max_prefixlen:
            self._hosts.add(str(network.network_address))
        self._networks.append(network)

    def __call__(self, address: str) -> bool:
        if address in self._hosts:
            return True
        known = self._known.get(address)
        if known is None:
            known = self._contains(address)
            if len(self._known) >= 1024:  # a cache for the peers of now; parsing an address takes 3 µs
                self._known.clear()
            self._known[address] = known
        return known

    def _contains(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:  # a Unix domain socket has none
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            mapped = address.ipv4_mapped
            return any(mapped in network or address in network for network in self._networks)
        return any(address in network for network in self._networks)


class Times:
    """Ranges of the time of day; called with a time as "HH:MM", tells whether it is inside. The end of a range is not,
    and a range whose end comes before its begin goes over midnight."""

    _form = re.compile("((?:[01][0-9]|2[0-3]):[0-5][0-9])-((?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)")

    def __init__(self) -> None:
        self._ranges: list[tuple[str, str]] = []

    def add(self, text: str) -> None:
        """Adds a range; raises ValueError."""
        match = self._form.fullmatch(text)
        if match is None or match[1] == match[2]:
            raise ValueError(text)
        self._ranges.append((match[1], match[2]))

    def __call__(self, time: str) -> bool:
        return any(
            begin <= time < end if begin < end else time >= begin or time < end for begin, end in self._ranges
        )


def _mode(path: str | None) -> int:
    if not path:
        return 0
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


def _is_file(path: str | None) -> bool:
    return stat.S_ISREG(_mode(path))


def _is_folder(path: str | None) -> bool:
    return stat.S_ISDIR(_mode(path))


def _exists(path: str | None) -> bool:
    return _mode(path) != 0
