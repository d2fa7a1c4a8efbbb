"""The tree of a query, as the parser makes it and the compiler reads it. Pure."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias


class LiteralKind(Enum):
    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"
    NULL = "null"
    MISSING = "missing"


class Literal(NamedTuple):
    """A constant; *text* as written (numbers), or its value (texts)."""

    kind: LiteralKind
    text: str


class Step(NamedTuple):
    """One step of a path: a name or a position."""

    name: str
    is_quoted: bool = False
    position: int | None = None


class Path(NamedTuple):
    """A column or a member of a document: ``s.a.b[0]``, ``_1``, ``"a b"``."""

    steps: tuple[Step, ...]


class Unary(NamedTuple):
    operator: str
    """``-``, ``+`` or ``NOT``."""
    operand: Expression


class Binary(NamedTuple):
    operator: str
    left: Expression
    right: Expression


class Between(NamedTuple):
    operand: Expression
    low: Expression
    high: Expression
    negated: bool


class Within(NamedTuple):
    """``operand [NOT] IN (items)``."""

    operand: Expression
    items: tuple[Expression, ...]
    negated: bool


class Like(NamedTuple):
    operand: Expression
    pattern: Expression
    escape: str
    negated: bool


class Is(NamedTuple):
    """``operand IS [NOT] NULL`` or ``MISSING``."""

    operand: Expression
    missing: bool
    negated: bool


class Case(NamedTuple):
    """*operand* None: each condition stands for itself."""

    operand: Expression | None
    branches: tuple[tuple[Expression, Expression], ...]
    default: Expression | None


class Cast(NamedTuple):
    operand: Expression
    type_name: str


class Call(NamedTuple):
    """A function, its name in upper case. Keywords among the arguments are text literals."""

    name: str
    arguments: tuple[Expression, ...]


class Aggregate(NamedTuple):
    """COUNT, SUM, AVG, MIN or MAX; *argument* None: ``COUNT(*)``."""

    name: str
    argument: Expression | None


Predicate: TypeAlias = "Between | Within | Like | Is"
Expression: TypeAlias = (
    "Literal | Path | Unary | Binary | Predicate | Case | Cast | Call | Aggregate"
)


class Projection(NamedTuple):
    expression: Expression
    alias: str


class Query(NamedTuple):
    """``SELECT projections FROM S3Object source [alias] [WHERE condition] [LIMIT limit]``."""

    projections: tuple[Projection, ...] | None
    """None: all of each record."""
    source: tuple[Step | None, ...]
    """Steps below ``S3Object``; None is ``[*]``."""
    alias: str
    condition: Expression | None
    limit: int | None
