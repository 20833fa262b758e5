"""Conditions and templates: every operator, precedence, what is refused, and a naive evaluator to compare with."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemi.conditions import ConditionError, Networks, Scope, compile_condition, compile_template

SCOPE = Scope(
    "test",
    {"path": "s['path']", "method": "s['method']", "src_host": "s['src_host']", "tls": "s['tls']"},
    {"header_": "s['headers'].get({name!r}, '')", "cookie_": "s['cookies'].get({name!r}, '')"},
    frozenset(("src_host",)),
    "s['file']",
)
SUBJECT: dict[str, Any] = {
    "path": "/api/users",
    "method": "GET",
    "src_host": "10.1.2.3",
    "tls": "true",
    "headers": {"x-user-agent": "curl/8 'x' \\d"},
    "cookies": {"my_id": "7"},
    "file": None,
}


def holds(text: str, **changes: Any) -> bool:
    return compile_condition(text, SCOPE)(SUBJECT | changes)


@pytest.mark.parametrize(
    "text",
    [
        '$path == "/api/users"',
        "$path == '/api/users'",
        '$path == ("/x", "/api/users")',
        '$path ^= "/api/"',
        '$path ^= ("/x", "/api/",)',
        '$path $= "users"',
        '$path $= ("x", "users")',
        '$path *= "pi/"',
        '$path *= ("zz", "pi/")',
        '$path ~= "^/api/[a-z]+$"',
        '$path ~= ("^/x", "users$")',
        r'$path ~= "\w+/\w+"',
        '$path != "/x"',
        '$path != ("/x", "/y")',
        '$path !^ "/x"',
        '$path !$ ("/x", "/y")',
        '$path !* ("/x", "/y")',
        '$path !~ "^x"',
        '$method=="GET"',
        "$tls == true",
        "$cookie_my_id == 7",
        '$cookie_none == ""',
        '$header_x_user_agent ^= "curl/"',
        r'$header_x_user_agent *= "\'x\'"',
        r'''$header_x_user_agent $= "\\d"''',
        r"""$header_x_user_agent *= '\'x' """,
        '$src_host in "10.0.0.0/8"',
        '$src_host in ("192.168.0.0/16", "10.1.2.3")',
        '$src_host not in ("192.168.0.0/16", "::1")',
        'not $method == "POST"',
        'not not $method == "GET"',
        'not ($method == "POST" or $path == "/")',
        '($method == "GET")',
        '$method == "GET" and $path ^= "/api"',
        '$method == "POST" and $path == "/x" or $method == "GET"',
        '$method == "GET" or $method == "POST" and $path == "/x"',
        'not $method == "POST" and $path ^= "/api"',
        "  $method\n == \t'GET' ",
    ],
)
def test_what_holds(text: str) -> None:
    assert holds(text) is True
    assert compile_condition(text, SCOPE).text == text
    assert holds(f"not ({text})") is False


def test_file_tests(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    os.mkfifo(tmp_path / "fifo")
    cases = {"f": "f e E !d", "": "d e D E !f", "no": "!f !d !e", "fifo": "e E !f !d"}
    for name, true in cases.items():
        for test in ("-f", "-d", "-e", "-D", "-E", "!f", "!d", "!e"):
            expected = test.lstrip("-") in true.split()
            assert holds(f"$path {test}", file=str(tmp_path / name)) is expected, (name, test)


def test_the_web_root_itself_counts_only_for_the_capitals(tmp_path: Path) -> None:
    found = {
        test: holds(f"$path {test}", path="/", file=str(tmp_path))
        for test in ("-d", "-e", "-D", "-E", "!d", "!e")
    }
    assert found == {"-d": False, "-e": False, "-D": True, "-E": True, "!d": False, "!e": False}


def test_nothing_exists_without_a_web_root_or_below_a_bad_path() -> None:
    for file in (None, "", "a\0b", "/" + "x" * 5000):
        assert not holds("$path -e", file=file)
        assert holds("$path !f", file=file)


def test_networks_take_all_forms_of_addresses() -> None:
    networks = Networks()
    for text in ("10.0.0.0/8", "fe80::/10", "::1"):
        networks.add(text)
    inside = ["10.255.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "::1", "0:0:0:0:0:0:0:1"]
    outside = ["11.0.0.1", "::2", "", "@uds", "/run/x.sock", "10.0.0", "::ffff:11.0.0.1"]
    for _ in range(2):  # once from the cache
        assert all(networks(text) for text in inside)
        assert not any(networks(text) for text in outside)


def test_the_cache_of_networks_is_bounded() -> None:
    networks = Networks()
    networks.add("10.0.0.0/8")
    for n in range(3000):
        assert networks(str(ipaddress.ip_address((10 << 24) + n)))
    assert len(networks._known) <= 1024


def test_a_variable_is_evaluated_once() -> None:
    calls = []
    scope = Scope("count", {"x": "s('x')"})
    condition = compile_condition('$x *= ("a", "b", "c") or $x ~= ("a", "b")', scope)

    def subject(name: str) -> str:
        calls.append(name)
        return "zzz"

    assert condition(subject) is False
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "a $variable must stand here, not the end"),
        ("path == 'x'", 1, "a $variable must stand here, not path"),
        ("$paht == 'x'", 1, 'there is no variable $paht, did you mean "$path"?'),
        ("$header_ == 'x'", 1, 'there is no variable $header_, did you mean "$header_NAME"?'),
        ("$path", 6, "an operator such as == must follow $path, not the end"),
        ("$path = 'x'", 7, "'=' has no meaning here"),
        ("$path == GET", 10, 'a text must be quoted, as "GET"'),
        ("$path == $method", 10, "a quoted text must stand here, not $method"),
        ("$path == ", 10, "a quoted text must stand here, not the end"),
        ("$path == ()", 11, "a quoted text must stand here, not )"),
        ("$path == ('a' 'b')", 15, '"," or ")" must follow, not \'b\''),
        ("$path == ('a'", 14, '"," or ")" must follow, not the end'),
        ("($path == 'a'", 1, '")" is missing'),
        ("$path == 'a')", 13, '"and", "or" or the end must follow, not )'),
        ("$path == 'a' $path == 'b'", 14, '"and", "or" or the end must follow, not $path'),
        ("$path == 'a' && $path == 'b'", 14, 'write "and"'),
        ("$path == 'a' || $path == 'b'", 14, 'write "or"'),
        ("!($path == 'a')", 1, 'write "not"'),
        ("$path == 'a", 10, "a quote is not closed"),
        ('$path == "a', 10, "a quote is not closed"),
        ("$path ^= ''", 10, "this pattern must not be empty: it matches everything"),
        ("$path ~= '('", 10, "'(' is not a regular expression: missing ): ("),
        ("$path in '10.0.0.0/8'", 7, '"in" is for variables that hold addresses ($src_host), not for $path'),
        ("$src_host in '10.0.0.1/8'", 14, '"10.0.0.1/8" is not a network such as 10.0.0.0/8'),
        ("$src_host not '::1'", 15, '"in" must follow "not", not \'::1\''),
        ("$method -f", 9, "-f is for $path, not for $method"),
        ("$path -x", 7, "'-' has no meaning here"),
        ("not", 4, "a $variable must stand here, not the end"),
        ("(" * 100 + "$path == 'a'" + ")" * 100, 41, "it is nested more than 40 deep"),
        ("not " * 100 + "$path == 'a'", 161, "it is nested more than 40 deep"),
        ("$path == 'a' or " * 1000 + "$path == 'a'", 1, "it has more than 8192 characters"),
    ],
)
def test_what_is_refused(text: str, column: int, message: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text, SCOPE)
    assert (caught.value.column, caught.value.message) == (column, message)


def test_scopes_without_files_or_networks() -> None:
    scope = Scope("bare", {"path": "s"})
    for text, message in (("$path -f", "-f is for nothing here"), ("$path in '::1'", "(none here)")):
        with pytest.raises(ConditionError, match=re.escape(message)):
            compile_condition(text, scope)
    with pytest.raises(ConditionError, match="nothing has variables here"):
        compile_condition("$path == 'x'", None)


def test_nothing_of_a_condition_is_executed() -> None:
    evil = "\"'; __import__('os').system('x') #{0}%s\\"
    text = '$header___class__ == "x" or $path == "' + evil.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert holds(text, path=evil)


# Templates


def render(text: str) -> str:
    return compile_template(text, SCOPE)(SUBJECT)


def test_templates() -> None:
    assert render("$method $path") == "GET /api/users"
    assert render("$path") == "/api/users"
    assert render("id=$cookie_my_id; agent=$header_x_user_agent") == "id=7; agent=curl/8 'x' \\d"
    assert render("$(method)s $$5 $ $1 100%{x}") == "GETs $5 $ $1 100%{x}"


def test_templates_without_variables_are_constants() -> None:
    template = compile_template("costs $$5", None)
    assert template.constant == "costs $5"
    assert template(None) == "costs $5"
    assert template.text == "costs $$5"
    assert compile_template("", None).constant == ""
    assert compile_template("$path", SCOPE).constant is None


def test_templates_that_are_refused() -> None:
    with pytest.raises(ConditionError) as caught:
        compile_template("a $methd", SCOPE)
    assert (caught.value.column, caught.value.message) == (
        3,
        'there is no variable $methd, did you mean "$method"?',
    )
    with pytest.raises(
        ConditionError, match=re.escape("there is no variable $USD; write $$ for a dollar sign")
    ):
        compile_template("5 $USD", SCOPE)


# Against a naive evaluator

TEXTS = st.text(alphabet="ab/\"'\\ $()\u00e9", max_size=4)
OPERATORS = st.sampled_from(["==", "^=", "$=", "*=", "!=", "!^", "!$", "!*"])
COMPARISONS = st.tuples(
    st.sampled_from(["path", "method", "cookie_a"]),
    OPERATORS,
    st.lists(TEXTS.filter(bool), min_size=1, max_size=3),
)
TREES = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=8,
)


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write(tree: Any) -> str:
    if tree[0] == "not":
        return f"not ({write(tree[1])})"
    if tree[0] in ("and", "or"):
        return f"({write(tree[1])}) {tree[0]} ({write(tree[2])})"
    name, operator, patterns = tree
    listed = ", ".join(map(quote, patterns))
    return f"${name} {operator} " + (listed if len(patterns) == 1 else f"({listed})")


def evaluate(tree: Any, subject: dict[str, Any]) -> bool:
    if tree[0] == "not":
        return not evaluate(tree[1], subject)
    if tree[0] == "and":
        return evaluate(tree[1], subject) and evaluate(tree[2], subject)
    if tree[0] == "or":
        return evaluate(tree[1], subject) or evaluate(tree[2], subject)
    name, operator, patterns = tree
    value = subject["cookies"].get("a", "") if name == "cookie_a" else subject[name]
    test = {
        "=": lambda pattern: value == pattern,
        "^": lambda pattern: value[: len(pattern)] == pattern,
        "$": lambda pattern: len(value) >= len(pattern) and value[len(value) - len(pattern) :] == pattern,
        "*": lambda pattern: value.find(pattern) >= 0,
    }[operator[1] if operator[0] == "!" else operator[0]]
    return any(test(pattern) for pattern in patterns) != (operator[0] == "!")


@settings(max_examples=400)
@given(TREES, TEXTS, TEXTS, TEXTS)
def test_conditions_mean_what_the_naive_evaluator_says(
    tree: Any, path: str, method: str, cookie: str
) -> None:
    subject = SUBJECT | {"path": path, "method": method, "cookies": {"a": cookie}}
    assert compile_condition(write(tree), SCOPE)(subject) is evaluate(tree, subject)


@settings(max_examples=400)
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(
            st.sampled_from(
                [
                    "$path",
                    "$method",
                    "$src_host",
                    "==",
                    "~=",
                    "in",
                    "not",
                    "and",
                    "or",
                    "(",
                    ")",
                    ",",
                    "'a'",
                    '"::1"',
                    "-f",
                    "!f",
                    "7",
                    "!",
                ]
            ),
            max_size=12,
        ).map(" ".join),
    )
)
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        condition = compile_condition(text, SCOPE)
    except ConditionError as error:
        assert 1 <= error.column <= len(text) + 1
    else:
        assert condition(SUBJECT) in (True, False)


@given(st.text(max_size=40))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        template = compile_template(text, SCOPE)
    except ConditionError:
        return
    assert isinstance(template(SUBJECT), str)
