"""Formulas that users write, as text or in SymPy, read into SymPy expressions over fastlam's own symbols.

Nothing that is read is run: Python's parser makes a tree of a text, and only what is listed here is taken from it.
"""

from __future__ import annotations

import ast
import difflib
import numbers
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import sympy

from fastlam import algebra
from fastlam.algebra import Algebra, Operation, RefusedError

LENGTH = 1_000  # characters of a text
NODES = 2_000  # of a SymPy expression: more than that many characters make
DEPTH = 50  # of parentheses; of calls, signs and powers in one another

_OPERATORS: dict[type[ast.AST], Operation] = {
    ast.Add: algebra.ADD,
    ast.Sub: algebra.SUBTRACT,
    ast.Mult: algebra.MULTIPLY,
    ast.Div: algebra.DIVIDE,
    ast.Pow: algebra.RAISE,
    ast.USub: algebra.NEGATE,
    ast.UAdd: algebra.KEEP,
}
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-*/(),. \t\r\n")
_DECIMAL = r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_SPACES = str.maketrans("\t\r\n", "   ")  # one for one: places stay what they are
_ACCEPTED = f"accepted are numbers, names, + - * / **, parentheses and {', '.join(algebra.FUNCTIONS)}"


def read(text: str | sympy.Expr | float, symbols: Mapping[str, sympy.Symbol], where: str) -> sympy.Expr:
    """The formula in `text` as a SymPy expression over `symbols`: real, finite, of a few functions alone.

    A text is written in Python's arithmetic, on one line or many: numbers, names, `+ - * / **`, parentheses, exp, log,
    sqrt, sin, cos, tan, sinh, cosh, tanh and abs of one argument, min and max of two or more. It is never run.
    Constants are computed as they are read: integers, their fractions, and multiples of pi and E stay exact; anything
    else becomes the float64 that Python computes. What is real for some values of its names only, such as `sqrt(x)`,
    is accepted.

    Parameters
    ----------
    text : str, sympy.Expr or real number
        The formula, of at most 1,000 characters or 2,000 nodes, functions and roots nested at most 8 deep (a min or max
        counts twice), 10 arguments of a min or max, and 64 for a number that is an exponent. An expression's symbols
        are matched by name, whatever SymPy assumes of them.
    symbols : mapping of str to sympy.Symbol
        The names that are accepted and the symbols that they become, made with `real=True` and no more: where a symbol
        has a sign SymPy looks for the roots of polynomials, which takes seconds. `pi` is known besides, unless it is
        one of them.
    where : str
        What is read, for messages: "Diffusion: drift".

    Returns
    -------
    sympy.Expr
        Of `symbols`, numbers within float64, pi, E, Add, Mul, Pow and the functions above. Sums, products and functions
        of small arguments are in SymPy's own form: `sqrt(x**2)` is `Abs(x)`, and `sqrt(x)**2` is `x`, below zero too.

    Raises
    ------
    ValueError
        Everything else, with its place: other syntax, unknown names, wrong numbers of arguments, a division by zero,
        what is never real or finite, what is too long, too deep or too large a power.
    TypeError
        `text` is of another kind, such as a bool, None or an array.

    Examples
    --------
    >>> symbols = {name: sympy.Symbol(name, real=True) for name in ("x", "theta", "mu")}
    >>> read("theta*(mu - x)", symbols, "Diffusion: drift")
    theta*(mu - x)
    >>> read("thta*(mu - x)", symbols, "Diffusion: drift")
    Traceback (most recent call last):
    ValueError: Diffusion: drift has 'thta' at column 1, an unknown name: did you mean theta? Known are x, theta, mu, pi
    """
    if isinstance(text, numbers.Rational) and not isinstance(text, (bool, sympy.Expr)):  # an int is one
        text = sympy.Rational(int(text.numerator), int(text.denominator))
    elif isinstance(text, numbers.Real) and not isinstance(text, (bool, sympy.Expr)):
        text = sympy.Float(float(text))
    try:
        if isinstance(text, str):
            return _Text(symbols, where, text).read()
        if isinstance(text, sympy.Expr):
            return _Tree(symbols, where).read(text)
    except (RecursionError, MemoryError):  # the parser's words for deep; or the caller is deep in the stack already
        raise ValueError(f"{where} is nested too deep") from None
    if isinstance(text, (sympy.Basic, sympy.MatrixBase)):
        raise ValueError(f"{where} must be a scalar, but is SymPy's {type(text).__name__}: {_short(str(text))}")
    raise TypeError(f"{where} must be text, a SymPy expression or a real number, but is {text!r}")


class _Reader:
    """What both kinds of formula share: names, operations, and a refusal that says where."""

    def __init__(self, symbols: Mapping[str, sympy.Symbol], where: str) -> None:
        self.symbols, self.where, self.algebra = symbols, where, Algebra()

    def place(self, node: Any) -> str:
        """The piece that `node` is, in quotes, and where it stands."""
        raise NotImplementedError

    def refuse(self, node: Any, what: str) -> NoReturn:
        raise ValueError(f"{self.where} has {self.place(node)}, {what}") from None

    def name(self, node: Any, name: str) -> sympy.Expr:
        if name not in self.symbols:
            self.refuse(node, f"an unknown name: {_suggestion(name, [*self.symbols, 'pi'])}")
        return self.symbols[name]

    def apply(self, node: Any, operation: Operation, *args: sympy.Expr) -> sympy.Expr:
        try:
            return self.algebra.apply(operation, *args)
        except RefusedError as error:
            return self.refuse(node, str(error))


class _Text(_Reader):
    """A text, by way of Python's syntax tree; a place is a node, or a pair: a character and what follows it."""

    def __init__(self, symbols: Mapping[str, sympy.Symbol], where: str, text: str) -> None:
        super().__init__(symbols, where)
        self.text, self.start = text, 0

    def read(self) -> sympy.Expr:
        if len(self.text) > LENGTH:
            raise ValueError(f"{self.where} has {len(self.text):,} characters, but at most {LENGTH:,} are accepted")
        self.check_characters()
        body = self.text.translate(_SPACES).lstrip(" ")  # Python would take spaces in front for a block
        self.start = len(self.text) - len(body)
        if not body:
            raise ValueError(f"{self.where} is empty: {_ACCEPTED}")
        try:
            return self.visit(ast.parse(body, mode="eval").body, 1)
        except SyntaxError as error:
            first = self.start + (error.offset - 1 if error.offset else len(body))  # 0 is the end
            after = max(first + 1, self.start + (error.end_offset or 0) - 1)
            self.refuse((first, after), f"a syntax error ({error.msg}): {_ACCEPTED}")

    def check_characters(self) -> None:
        """Refuse, before the parser sees it, what no formula has: other alphabets, quotes, brackets; and depth."""
        depth = 0
        for i, character in enumerate(self.text):
            if character not in _ALPHABET:
                hint = "write ** for a power" if character == "^" else _ACCEPTED
                self.refuse((i, i + 1), f"which is not accepted: {hint}")
            depth += (character == "(") - (character == ")")
            if depth > DEPTH:
                self.refuse((i, i + 1), f"nested deeper than {DEPTH}")

    def place(self, node: Any) -> str:
        if isinstance(node, ast.expr):
            node = self.start + node.col_offset, self.start + (node.end_col_offset or 0)
        first, after = node
        piece = ascii(_short(self.text[first:after])) if first < len(self.text) else "nothing more"
        line = f"line {self.text.count(chr(10), 0, first) + 1}, " if "\n" in self.text else ""
        return f"{piece} at {line}column {first - self.text.rfind(chr(10), 0, first)}"

    def visit(self, node: ast.expr, depth: int) -> sympy.Expr:
        if depth > DEPTH:
            self.refuse(node, f"nested deeper than {DEPTH}")
        match node:
            case ast.Constant(value=bool()):  # an int to Python
                kind = node.value
            case ast.Constant(value=int() | float() as value):
                self.check_number(node)
                return self.apply(
                    node, algebra.KEEP, sympy.Integer(value) if type(value) is int else sympy.Float(value)
                )
            case ast.Name(id="pi") if "pi" not in self.symbols:
                return sympy.pi
            case ast.Name(id=name):
                return self.name(node, name)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                return self.apply(node, _OPERATORS[type(op)], self.visit(operand, depth + 1))
            case ast.BinOp(op=op) if type(op) in _OPERATORS:
                return self.chain(node, depth)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self.apply(node, self.function(node, name, len(args)), *[self.visit(a, depth + 1) for a in args])
            case ast.UnaryOp(op=kind) | ast.BinOp(op=kind) | ast.BoolOp(op=kind) | ast.Constant(value=kind) | kind:
                pass
        return self.refuse(node, f"Python's {type(kind).__name__}, which is not accepted: {_ACCEPTED}")

    def check_number(self, node: ast.Constant) -> None:
        """Refuse what Python takes for a number beside decimal ones, and what it rounds to 0."""
        text = self.text[self.start + node.col_offset : self.start + (node.end_col_offset or 0)]
        if not re.fullmatch(_DECIMAL, text):
            self.refuse(node, "which is not a decimal number")
        if not node.value and re.search("[1-9]", re.split("[eE]", text)[0]):
            self.refuse(node, "which is above 0, but too small for float64")

    def chain(self, node: ast.expr, depth: int) -> sympy.Expr:
        """A sum or product of any length: down its left side in a loop, for the stack is too short for it."""
        links: list[ast.BinOp] = []
        while isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            links.append(node)
            node = node.left
        value = self.visit(node, depth)
        for link in reversed(links):
            right = self.visit(link.right, depth + isinstance(link.op, ast.Pow))  # others are deep in parentheses alone
            value = self.apply(link, _OPERATORS[type(link.op)], value, right)
        return value

    def function(self, node: ast.Call, name: str, n: int) -> Operation:
        if name in self.symbols:
            self.refuse(node, f"but {name} is not a function: write * to multiply")
        if name not in algebra.FUNCTIONS:
            self.refuse(node, f"an unknown function: {_suggestion(name, [*algebra.FUNCTIONS])}")
        many = name in ("min", "max")
        if n < 2 if many else n != 1:
            self.refuse(node, f"but {name} takes {'two or more arguments' if many else 'one argument'}, not {n}")
        return algebra.FUNCTIONS[name]


class _Tree(_Reader):
    """A SymPy expression, made anew from its leaves; a place is a node of it."""

    def read(self, expression: sympy.Expr) -> sympy.Expr:
        waiting, seen = [(expression, 1)], 0
        while waiting:
            node, depth = waiting.pop()
            seen += 1
            if seen > NODES or depth > 4 * DEPTH:  # one 1 / (x - ...) in a text is four deep
                raise ValueError(f"{self.where} has over {NODES:,} nodes, or is nested deeper than {4 * DEPTH}")
            waiting += [(part, depth + 1) for part in node.args]
        return self.visit(expression)

    def place(self, node: Any) -> str:
        try:
            return ascii(_short(str(node)))
        except ValueError:  # a number of more digits than Python prints
            return f"SymPy's {type(node).__name__}"

    def visit(self, node: sympy.Basic) -> sympy.Expr:
        if isinstance(node, sympy.Symbol):
            return self.name(node, node.name)
        if node.is_Number or node in (sympy.pi, sympy.E):
            return self.apply(node, algebra.KEEP, node)
        if type(node) not in algebra.NODES:
            self.refuse(node, f"SymPy's {type(node).__name__}, which is not accepted: {_ACCEPTED}")
        return self.apply(node, algebra.NODES[type(node)], *[self.visit(part) for part in node.args])


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"{f'did you mean {close[0]}? K' if close else 'k'}nown are {', '.join(known)}"


def _short(piece: str) -> str:
    return piece if len(piece) <= 40 else piece[:37] + "..."
