"""The query language of S3 Select, parsed. Pure.

Grammar: docs.aws.amazon.com/AmazonS3/latest/userguide/s3-select-sql-reference.html. Nothing of a
query's text reaches the SQL engine but what this parser understood.
"""

from __future__ import annotations

import re
from typing import NoReturn

from .errors import SelectError
from .syntax import (
    Aggregate,
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Expression,
    Is,
    Like,
    Literal,
    LiteralKind,
    Path,
    Projection,
    Query,
    Step,
    Unary,
    Within,
)
from .tokens import Token, tokens

EXPRESSION_BYTES_MAX = 256 * 1024  # AWS's limit on an expression
DEPTH_MAX = 64  # of nested expressions: bounds the stack
TREE_DEPTH_MAX = 100  # of operators on operators: bounds the stack of those who walk the tree

AGGREGATES = frozenset({"COUNT", "SUM", "AVG", "MIN", "MAX"})
FUNCTIONS = {
    "CHAR_LENGTH": (1, 1),
    "CHARACTER_LENGTH": (1, 1),
    "COALESCE": (1, 100),
    "LOWER": (1, 1),
    "NULLIF": (2, 2),
    "TO_STRING": (2, 2),
    "TO_TIMESTAMP": (1, 1),
    "UPPER": (1, 1),
    "UTCNOW": (0, 0),
}
"""Functions with ordinary arguments, and how many they take."""
DATE_PARTS = frozenset(
    {"YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND", "TIMEZONE_HOUR", "TIMEZONE_MINUTE"}
)
TYPES = {
    "BOOL": "BOOLEAN",
    "BOOLEAN": "BOOLEAN",
    "INT": "BIGINT",
    "INTEGER": "BIGINT",
    "STRING": "VARCHAR",
    "VARCHAR": "VARCHAR",
    "CHAR": "VARCHAR",
    "CHARACTER": "VARCHAR",
    "FLOAT": "DOUBLE",
    "DOUBLE": "DOUBLE",
    "REAL": "DOUBLE",
    "DECIMAL": "DECIMAL(38, 10)",
    "NUMERIC": "DECIMAL(38, 10)",
    "TIMESTAMP": "TIMESTAMP",
}
"""Type names of CAST, and the engine's."""

_KEYWORDS = frozenset(
    "SELECT FROM WHERE LIMIT AS AND OR NOT BETWEEN IN LIKE ESCAPE IS NULL MISSING TRUE FALSE CASE "
    "WHEN THEN ELSE END CAST".split()
)
_ION_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_ION_TIME = re.compile(r"\d{4}(?:-\d\d){0,2}(?:T[\d:.]*(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_COMPARISONS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">="})


def parse(text: str) -> Query:
    """The query. Raises SelectError, as AWS names what is wrong with it."""
    if len(text.encode("utf-8", "surrogatepass")) > EXPRESSION_BYTES_MAX:
        raise SelectError("ExpressionTooLong")
    query = _Parser(tokens(text)).query()
    _check_depth(query)
    return query


def _check_depth(query: Query) -> None:
    """Raises SelectError ExpressionTooLong."""
    waiting: list[tuple[object, int]] = [(query, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > TREE_DEPTH_MAX:
            raise SelectError("ExpressionTooLong", "The SQL expression is nested too deeply.")
        if isinstance(node, tuple):
            # A list inside an expression is a level, but none of the tree.
            below = depth + hasattr(node, "_fields")
            waiting += [(part, below) for part in node]


def _balanced(operator: str, operands: list[Expression]) -> Expression:
    """Many operands of an associative operator as a tree that is no deeper than it must be."""
    while len(operands) > 1:
        pairs = [
            Binary(operator, operands[at], operands[at + 1])
            for at in range(0, len(operands) - 1, 2)
        ]
        operands = [*pairs, *operands[2 * len(pairs) :]]
    return operands[0]


class _Parser:
    """Recursive descent, one method for each level of precedence."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def query(self) -> Query:
        self._expect_word("SELECT")
        projections = self._projections()
        self._expect_word("FROM")
        source, alias = self._source()
        condition = self._expression() if self._take_word("WHERE") else None
        limit = self._limit() if self._take_word("LIMIT") else None
        if self._peek().kind != "end":
            self._fail("ParseUnexpectedToken")
        return Query(projections, source, alias, condition, limit)

    def _projections(self) -> tuple[Projection, ...] | None:
        if self._take_operator("*") or self._take_all_of():
            return None
        found = [self._projection()]
        while self._take_operator(","):
            found.append(self._projection())
        return tuple(found)

    def _take_all_of(self) -> bool:
        """Take ``s.*``. Whether *s* is what the records are called is not looked at: there is
        nothing else that it can mean."""
        following = self._tokens[self._next : self._next + 3]
        is_all = [token.text for token in following[1:]] == [".", "*"] and self._is_name()
        if is_all:
            self._next += 3
        return is_all

    def _projection(self) -> Projection:
        expression = self._expression()
        alias = ""
        if self._take_word("AS") or self._is_name():
            alias = self._name().name
        return Projection(expression, alias)

    def _source(self) -> tuple[tuple[Step | None, ...], str]:
        first = self._take()
        if first.kind != "word" or first.text.upper() != "S3OBJECT":
            self._fail("ParseExpectedIdentForAlias", first)
        steps: list[Step | None] = []
        while True:
            if self._take_operator("["):
                if self._take_operator("*"):
                    steps.append(None)
                else:
                    steps.append(self._index())
                self._expect_operator("]")
            elif self._take_operator("."):
                steps.append(self._name())
            else:
                break
        alias = ""
        if self._take_word("AS") or self._is_name():
            alias = self._name().name
        return tuple(steps), alias

    def _limit(self) -> int:
        token = self._take()
        if token.kind != "number" or not token.text.isdigit() or len(token.text) > 18:
            self._fail("ParseExpectedNumber", token)
        return int(token.text)

    # Expressions, from the loosest binding to the tightest

    def _expression(self) -> Expression:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            self._fail("ExpressionTooLong")
        found = [self._conjunction()]
        while self._take_word("OR"):
            found.append(self._conjunction())
        self._depth -= 1
        return _balanced("OR", found)

    def _conjunction(self) -> Expression:
        found = [self._negation()]
        while self._take_word("AND"):
            found.append(self._negation())
        return _balanced("AND", found)

    def _negation(self) -> Expression:
        count = 0
        while self._take_word("NOT"):
            count += 1
        found = self._comparison()
        return Unary("NOT", found) if count % 2 else found

    def _comparison(self) -> Expression:
        left = self._sum()
        while True:
            token = self._peek()
            if token.kind == "operator" and token.text in _COMPARISONS:
                self._take()
                left = Binary("<>" if token.text == "!=" else token.text, left, self._sum())
            elif self._take_word("IS"):
                negated = self._take_word("NOT")
                missing = self._take_word("MISSING")
                if not missing:
                    self._expect_word("NULL")
                left = Is(left, missing, negated)
            else:
                negated = self._take_word("NOT")
                found = self._predicate(left, negated)
                if found is None:
                    if negated:
                        self._fail("ParseUnexpectedToken")
                    return left
                left = found

    def _predicate(self, left: Expression, negated: bool) -> Expression | None:
        if self._take_word("BETWEEN"):
            low = self._sum()
            self._expect_word("AND")
            return Between(left, low, self._sum(), negated)
        if self._take_word("IN"):
            self._expect_operator("(")
            items = [self._expression()]
            while self._take_operator(","):
                items.append(self._expression())
            self._expect_operator(")")
            return Within(left, tuple(items), negated)
        if self._take_word("LIKE"):
            pattern = self._sum()
            escape = ""
            if self._take_word("ESCAPE"):
                token = self._take()
                if token.kind != "text" or len(token.text) != 1:
                    self._fail("LikeInvalidInputs", token)
                escape = token.text
            return Like(left, pattern, escape, negated)
        return None

    def _sum(self) -> Expression:
        left = self._product()
        while operator := self._take_operator("+", "-", "||"):
            left = Binary(operator, left, self._product())
        return left

    def _product(self) -> Expression:
        left = self._sign()
        while operator := self._take_operator("*", "/", "%"):
            left = Binary(operator, left, self._sign())
        return left

    def _sign(self) -> Expression:
        negative = False
        signs = 0
        while operator := self._take_operator("-", "+"):
            negative ^= operator == "-"
            signs += 1
        found = self._primary()
        return Unary("-" if negative else "+", found) if signs else found

    def _primary(self) -> Expression:
        token = self._take()
        if token.kind == "number":
            return Literal(LiteralKind.NUMBER, token.text)
        if token.kind == "text":
            return Literal(LiteralKind.TEXT, token.text)
        if token.kind == "ion":
            return self._ion(token)
        if token.kind == "operator" and token.text == "(":
            found = self._expression()
            self._expect_operator(")")
            return found
        if token.kind == "quoted":
            return self._path(Step(token.text, is_quoted=True))
        if token.kind != "word":
            self._fail("ParseUnexpectedToken", token)
        word = token.text.upper()
        if word in ("TRUE", "FALSE"):
            return Literal(LiteralKind.BOOLEAN, word)
        if word in ("NULL", "MISSING"):
            return Literal(LiteralKind[word], word)
        if word == "CASE":
            return self._case()
        if word == "CAST":
            return self._cast()
        if self._peek() == ("operator", "(", self._peek().position):
            return self._call(token, word)
        if word in _KEYWORDS:
            self._fail("ParseUnexpectedToken", token)
        return self._path(Step(token.text))

    def _ion(self, token: Token) -> Expression:
        """A constant as Amazon Ion writes it: a number or a time."""
        text = token.text.strip()
        if _ION_TIME.fullmatch(text) and ("T" in text or text.count("-") == 2):
            return Call("TO_TIMESTAMP", (Literal(LiteralKind.TEXT, text),))
        if not _ION_NUMBER.fullmatch(text):
            self._fail("LexerInvalidIONLiteral", token)
        return Literal(LiteralKind.NUMBER, text)

    def _path(self, first: Step) -> Path:
        steps = [first]
        while True:
            if self._take_operator("."):
                steps.append(self._name())
            elif self._take_operator("["):
                steps.append(self._index())
                self._expect_operator("]")
            else:
                return Path(tuple(steps))

    def _index(self) -> Step:
        token = self._take()
        if token.kind == "text":
            return Step(token.text, is_quoted=True)
        if token.kind != "number" or not token.text.isdigit() or len(token.text) > 9:
            self._fail("ParseInvalidPathComponent", token)
        return Step("", position=int(token.text))

    def _case(self) -> Case:
        operand = None if self._is_word("WHEN") else self._expression()
        branches: list[tuple[Expression, Expression]] = []
        while self._take_word("WHEN"):
            condition = self._expression()
            self._expect_word("THEN")
            branches.append((condition, self._expression()))
        if not branches:
            self._fail("ParseExpectedWhenClause")
        default = self._expression() if self._take_word("ELSE") else None
        self._expect_word("END")
        return Case(operand, tuple(branches), default)

    def _cast(self) -> Cast:
        self._expect_operator("(")
        operand = self._expression()
        self._expect_word("AS")
        token = self._take()
        type_name = TYPES.get(token.text.upper()) if token.kind == "word" else None
        if type_name is None:
            self._fail("ParseExpectedTypeName", token)
        if self._take_operator("("):  # lengths and scales are taken and make no difference
            self._limit()
            while self._take_operator(","):
                self._limit()
            self._expect_operator(")")
        self._expect_operator(")")
        return Cast(operand, type_name)

    def _call(self, token: Token, name: str) -> Expression:
        self._expect_operator("(")
        if name in AGGREGATES:
            argument = None
            if not (name == "COUNT" and self._take_operator("*")):
                argument = self._expression()
            self._expect_operator(")")
            return Aggregate(name, argument)
        if name in TYPES:  # INT(a), which some servers take for a CAST
            argument = self._expression()
            self._expect_operator(")")
            return Cast(argument, TYPES[name])
        arguments: list[Expression]
        if name == "EXTRACT":
            arguments = [self._date_part()]
            self._expect_word("FROM")
            arguments.append(self._expression())
        elif name in ("DATE_ADD", "DATE_DIFF"):
            arguments = [self._date_part()]
            for _ in range(2):
                self._expect_operator(",")
                arguments.append(self._expression())
        elif name == "SUBSTRING":
            arguments = self._substring()
        elif name == "TRIM":
            arguments = self._trim()
        elif name in FUNCTIONS:
            arguments = []
            if not self._is_operator(")"):
                arguments.append(self._expression())
                while self._take_operator(","):
                    arguments.append(self._expression())
            least, most = FUNCTIONS[name]
            if not least <= len(arguments) <= most:
                self._fail("EvaluatorInvalidArguments", token)
        else:
            self._fail("UnsupportedFunction", token)
        self._expect_operator(")")
        return Call(name, tuple(arguments))

    def _date_part(self) -> Literal:
        token = self._take()
        if token.kind != "word" or token.text.upper() not in DATE_PARTS:
            self._fail("ParseExpectedDatePart", token)
        return Literal(LiteralKind.TEXT, token.text.upper())

    def _substring(self) -> list[Expression]:
        arguments = [self._expression()]
        if self._take_word("FROM"):
            arguments.append(self._expression())
            if self._take_word("FOR"):
                arguments.append(self._expression())
            return arguments
        while self._take_operator(",") and len(arguments) < 3:
            arguments.append(self._expression())
        if len(arguments) < 2:
            self._fail("ParseUnexpectedToken")
        return arguments

    def _trim(self) -> list[Expression]:
        side = "BOTH"
        for word in ("LEADING", "TRAILING", "BOTH"):
            if self._take_word(word):
                side = word
                break
        what: Expression = Literal(LiteralKind.TEXT, " ")
        if self._take_word("FROM"):
            operand = self._expression()
        else:
            operand = self._expression()
            if self._take_word("FROM"):
                what, operand = operand, self._expression()
        return [Literal(LiteralKind.TEXT, side), what, operand]

    # Tokens

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _is_word(self, word: str) -> bool:
        token = self._peek()
        return token.kind == "word" and token.text.upper() == word

    def _take_word(self, word: str) -> bool:
        if not self._is_word(word):
            return False
        self._next += 1
        return True

    def _expect_word(self, word: str) -> None:
        if not self._take_word(word):
            self._fail("ParseExpectedKeyword")

    def _is_operator(self, *operators: str) -> bool:
        token = self._peek()
        return token.kind == "operator" and token.text in operators

    def _take_operator(self, *operators: str) -> str:
        if not self._is_operator(*operators):
            return ""
        return self._take().text

    def _expect_operator(self, operator: str) -> None:
        if not self._take_operator(operator):
            self._fail("ParseExpectedTokenType")

    def _is_name(self) -> bool:
        token = self._peek()
        if token.kind == "quoted":
            return True
        return token.kind == "word" and token.text.upper() not in _KEYWORDS

    def _name(self) -> Step:
        if not self._is_name():
            self._fail("ParseExpectedIdentForAlias")
        token = self._take()
        return Step(token.text, is_quoted=token.kind == "quoted")

    def _fail(self, code: str, token: Token | None = None) -> NoReturn:
        found = token or self._peek()
        raise SelectError(
            code,
            f"The SQL expression cannot be understood at position {found.position + 1}: "
            f"{found.text[:40]!r}.",
        )
