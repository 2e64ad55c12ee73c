"""Formulas of any kind: read or refused, and nothing takes for ever."""

import pytest
from expressions_cases import SYMBOLS, drift
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlam.expressions import LENGTH


def is_read_or_refused(text):
    """Anything else than ValueError fails the test that calls."""
    try:
        value = drift(text)
    except ValueError as refusal:
        return str(refusal).startswith("Diffusion: drift ")
    return value.free_symbols <= set(SYMBOLS.values())


FORMULA_CHARACTERS = "xtab019.eE_+-*/(), \n"


@given(
    st.one_of(
        st.text(max_size=60),
        st.text(FORMULA_CHARACTERS, max_size=60),
        st.lists(
            st.sampled_from(
                [
                    "x",
                    "t",
                    "2",
                    ".5",
                    "(",
                    ")",
                    "**",
                    "*",
                    "/",
                    "-",
                    "+",
                    ",",
                    "exp(",
                    "max(",
                    "sqrt(",
                    "abs(",
                    "not ",
                    " if ",
                    " else ",
                    "9",
                    "0",
                    "log(",
                ]
            ),
            max_size=40,
        ).map("".join),
    )
)
@settings(max_examples=1000, deadline=None)
def test_any_text_is_read_or_refused(text):
    assert is_read_or_refused(text)


def nested(before, after, n=45):
    """As deep as fits into the length."""
    text = "x"
    for _ in range(n):
        if len(before + text + after) <= LENGTH:
            text = before + text + after
    return text


def joined(separator, pattern, values):
    return separator.join(pattern.format(value) for value in values)[:LENGTH].rpartition(separator)[0]


MANY = range(2, 300)
NASTY = [
    # for Python's parser
    *(text * LENGTH for text in "(-9x., \n"),
    *(
        text * (LENGTH // len(text))
        for text in ("exp(", "not ", "x**", "9**", "x.", "x()", "(x,", "f(x for x in ", "x if x else ")
    ),
    "1e" + "9" * 900,
    # for arithmetic
    "9**9**9**9**9",
    "((9**64)**64)**64",
    "((((1000001/1000000)**64)**64)**64)**64",
    "((((1000001/1000000)*x)**64/x**63)**64/x**63)**64",
    f"sqrt(1{'0' * 300}39*x)",
    f"(1{'7' * 305}*x)**(1/7919)",
    joined(" + ", "1/{}", MANY),
    joined(" + ", "sqrt({})", MANY),
    joined(" + ", "sqrt({}*x)", MANY),
    # for SymPy: each of these took minutes or more when it simplified what it liked
    "cosh((x + sqrt(t))**64)",
    "sinh(1/(sqrt(x) + sqrt(t) + sqrt(a))**63)",
    "tanh((log(t) + sqrt(x))*(log(x) - sqrt(t))*(sqrt(a) + log(b))*(log(a) + sqrt(mu)))",
    nested("tanh(1 + ", "/t)", 8),
    nested("tanh(1 + ", "/t)"),
    "0*" + nested("tanh(1 + ", "/t)", 7),
    "({0})*({0})".format("1 + " + nested("tanh(1 + ", "/t)", 7)),
    nested("sqrt((1/(1 + ", "))**2)", 4),
    nested("sqrt((1/(1 + ", "))**2)"),
    nested("abs(", "*x + t)**3", 4),
    nested("abs(", "*x + t)**3"),
    nested("max(x, t, a, b, mu, ", "*2)", 4),
    nested("max(x, t, a, b, mu, ", "*2)"),
    nested("max(x - ", "*(t - a), b)", 4),
    nested("exp(x*log(", "))"),
    nested("log(x**", " + 1)"),
    # for all three, in size
    nested("1/(1 - x/(t + ", "))"),
    nested("(x*", " + 1)"),
    nested("(x**2*", ")**0.5"),
    nested("x**(", ")"),
    joined("*", "(x + {})", MANY),
    joined(" + ", "t*x**{}", [i % 64 for i in MANY]),
    joined("/", "x/t{}", [""] * 300),
    "max(" + joined(", ", "(a*x + {})**63", range(2, 12)) + ")",
    joined("*", "max(x, {}*t)", MANY),
    "abs(" + joined(" + ", "1/(x + {})", MANY)[:900].rpartition(" + ")[0] + ")",
]


@pytest.mark.timeout(60)  # a second is usual; without the limits of `algebra` some would not end at all
@pytest.mark.parametrize("text", NASTY, ids=[ascii(text[:40]) for text in NASTY])
def test_nothing_takes_for_ever(text):
    assert len(text) <= LENGTH
    assert is_read_or_refused(text)
