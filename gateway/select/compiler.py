"""A query as SQL for the embedded engine. Pure.

The engine sees only what is made here: column names that are ours, numbers that matched a pattern,
and texts in quotes. What a CSV file holds is text, and a member of a JSON document is JSON: each is
turned into a number or a time where it meets one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

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
    Query,
    Step,
    Unary,
    Within,
)
from .time_patterns import time_pieces

SQL_CHARACTERS_MAX = 1 << 20
"""Of an expression, compiled: what stands in it once may be needed several times over."""

DOCUMENT = "j"
"""The engine's column that holds a JSON record."""


class Kind(Enum):
    """What the engine holds for an expression."""

    TEXT = "text"
    JSON = "json"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    NATIVE = "native"
    """A Parquet column, of whatever type."""
    NOTHING = "nothing"
    """NULL or MISSING."""


class Value(NamedTuple):
    sql: str
    kind: Kind


class Source(NamedTuple):
    """The records: where the engine finds them, and what their columns are called."""

    relation: str
    """SQL of a relation whose columns are ``c1`` … (CSV), DOCUMENT (JSON) or the file's own."""
    format: str
    """``csv``, ``json`` or ``parquet``."""
    columns: Sequence[str]
    """Names of a CSV file's columns (empty texts: no header), or of a Parquet file's."""


class Compiled(NamedTuple):
    sql: str
    names: tuple[str, ...]
    """What the result's columns are called."""
    kinds: tuple[Kind, ...]
    whole: bool
    """Whether the result is the record itself (``SELECT *``)."""


def compile_query(query: Query, source: Source) -> Compiled:
    """Raises SelectError for what the records do not have or the engine cannot do."""
    return _Compiler(query, source).compiled()


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''").replace("\0", "") + "'"


class _Compiler:
    def __init__(self, query: Query, source: Source) -> None:
        self._query = query
        self._source = source
        self._aliases = {"s3object"} | ({query.alias.lower()} if query.alias else set())

    def compiled(self) -> Compiled:
        query, source = self._query, self._source
        relation = self._relation()
        names: list[str] = []
        values: list[Value] = []
        if query.projections is None:
            names, values = self._everything()
        else:
            for number, projection in enumerate(query.projections, 1):
                values.append(self._value(projection.expression))
                names.append(projection.alias or _name_of(projection.expression) or f"_{number}")
            counted = [_has_aggregate(item.expression) for item in query.projections]
            if any(counted) and not all(counted):
                raise SelectError("UnsupportedSqlStructure")
        listed = ", ".join(f"{value.sql} AS r{n}" for n, value in enumerate(values))
        sql = f"SELECT {listed} FROM {relation}"
        if query.condition is not None:
            if _has_aggregate(query.condition):
                raise SelectError("UnsupportedSqlStructure")
            sql += f" WHERE {self._truth(self._value(query.condition))}"
        if query.limit is not None:
            sql += f" LIMIT {query.limit}"
        return Compiled(
            sql,
            tuple(names),
            tuple(value.kind for value in values),
            query.projections is None and source.format == "json",
        )

    def _relation(self) -> str:
        source = self._source
        if source.format != "json":
            if any(step is not None for step in self._query.source) or len(self._query.source) > 1:
                raise SelectError("UnsupportedSqlStructure")
            return source.relation
        relation = source.relation
        steps = list(self._query.source)
        if steps and steps[0] is None:
            steps.pop(0)  # S3Object[*]: each record, which is what the relation has
        path = ""
        for step in steps:
            if step is None:
                relation = (
                    f"(SELECT unnest(json_extract({DOCUMENT}, {quoted('$' + path + '[*]')})) "
                    f"AS {DOCUMENT} FROM {relation})"
                )
                path = ""
            else:
                path += _json_step(step)
        if path:
            relation = (
                f"(SELECT json_extract({DOCUMENT}, {quoted('$' + path)}) AS {DOCUMENT} "
                f"FROM {relation})"
            )
        return relation

    def _everything(self) -> tuple[list[str], list[Value]]:
        source = self._source
        if source.format == "json":
            return ["_1"], [Value(DOCUMENT, Kind.JSON)]
        if source.format == "csv":
            names = [name or f"_{number}" for number, name in enumerate(source.columns, 1)]
            return names, [Value(f"c{n}", Kind.TEXT) for n in range(1, len(names) + 1)]
        values = [Value(identifier(name), Kind.NATIVE) for name in source.columns]
        return list(source.columns), values

    # Expressions

    def _value(self, expression: Expression) -> Value:
        value = self._compiled(expression)
        _check_size(len(value.sql))
        return value

    def _compiled(self, expression: Expression) -> Value:
        match expression:
            case Literal():
                return _literal(expression)
            case Path():
                return self._path(expression)
            case Unary("NOT", operand):
                return Value(f"(NOT {self._truth(self._value(operand))})", Kind.BOOLEAN)
            case Unary(operator, operand):
                return Value(f"({operator} {_number(self._value(operand))})", Kind.NUMBER)
            case Binary():
                return self._binary(expression)
            case Between(operand, low, high, negated):
                value = self._value(operand)
                least = _compared(">=", value, self._value(low))
                most = _compared("<=", value, self._value(high))
                return self._negated(Value(f"({least} AND {most})", Kind.BOOLEAN), negated)
            case Within(operand, items, negated):
                left = self._value(operand)
                _check_size(len(left.sql) * len(items))
                tests = [_compared("=", left, self._value(item)) for item in items]
                return self._negated(Value(f"({' OR '.join(tests)})", Kind.BOOLEAN), negated)
            case Like():
                return self._like(expression)
            case Is():
                return self._is(expression)
            case Case():
                return self._case(expression)
            case Cast(operand, type_name):
                return _cast(self._value(operand), type_name)
            case Aggregate(name, argument):
                return self._aggregate(name, argument)
            case Call(name, arguments):
                return self._call(name, arguments)
        raise SelectError("UnsupportedSqlStructure")

    def _negated(self, value: Value, negated: bool) -> Value:
        return Value(f"(NOT {value.sql})", Kind.BOOLEAN) if negated else value

    def _truth(self, value: Value) -> str:
        if value.kind is Kind.BOOLEAN or value.kind is Kind.NATIVE:
            return value.sql
        return f"TRY_CAST({_text(value)} AS BOOLEAN)"

    def _binary(self, expression: Binary) -> Value:
        operator = expression.operator
        left, right = self._value(expression.left), self._value(expression.right)
        if operator in ("AND", "OR"):
            return Value(f"({self._truth(left)} {operator} {self._truth(right)})", Kind.BOOLEAN)
        if operator == "||":
            return Value(f"({_text(left)} || {_text(right)})", Kind.TEXT)
        if operator in ("+", "-", "*", "/", "%"):
            return Value(f"({_number(left)} {operator} {_number(right)})", Kind.NUMBER)
        return Value(_compared(operator, left, right), Kind.BOOLEAN)

    def _like(self, expression: Like) -> Value:
        operand = _text(self._value(expression.operand))
        pattern = _text(self._value(expression.pattern))
        escape = f" ESCAPE {quoted(expression.escape)}" if expression.escape else ""
        return self._negated(
            Value(f"({operand} LIKE {pattern}{escape})", Kind.BOOLEAN), expression.negated
        )

    def _is(self, expression: Is) -> Value:
        value = self._value(expression.operand)
        test = f"({value.sql} IS NULL)"
        if value.kind is Kind.JSON and not expression.missing:
            test = f"({value.sql} IS NULL OR json_type({value.sql}) = 'NULL')"
        elif value.kind is Kind.TEXT and not expression.missing:
            test = f"({value.sql} IS NULL OR {value.sql} = '')"  # an empty field is nothing
        return self._negated(Value(test, Kind.BOOLEAN), expression.negated)

    def _case(self, expression: Case) -> Value:
        subject = None if expression.operand is None else self._value(expression.operand)
        if subject is not None:
            _check_size(len(subject.sql) * len(expression.branches))
        results = [self._value(result) for _, result in expression.branches]
        if expression.default is not None:
            results.append(self._value(expression.default))
        kinds = {result.kind for result in results} - {Kind.NOTHING}
        kind = kinds.pop() if len(kinds) == 1 else Kind.TEXT
        shown = [_as_kind(result, kind) for result in results]
        branches = []
        for (condition, _), result in zip(expression.branches, shown, strict=False):
            value = self._value(condition)
            test = self._truth(value) if subject is None else _compared("=", subject, value)
            branches.append(f"WHEN {test} THEN {result}")
        default = f" ELSE {shown[-1]}" if expression.default is not None else ""
        return Value(f"(CASE {' '.join(branches)}{default} END)", kind)

    def _aggregate(self, name: str, argument: Expression | None) -> Value:
        if argument is None:
            return Value("COUNT(*)", Kind.NUMBER)
        if _has_aggregate(argument):
            raise SelectError("UnsupportedSqlStructure")
        value = self._value(argument)
        if name == "COUNT":
            return Value(f"COUNT({value.sql})", Kind.NUMBER)
        if name in ("MIN", "MAX") and value.kind in (Kind.TIME, Kind.NATIVE):
            return Value(f"{name}({value.sql})", value.kind)
        return Value(f"{name}({_number(value)})", Kind.NUMBER)

    def _call(self, name: str, arguments: Sequence[Expression]) -> Value:
        values = [self._value(argument) for argument in arguments]
        match name:
            case "CHAR_LENGTH" | "CHARACTER_LENGTH":
                return Value(f"length({_text(values[0])})", Kind.NUMBER)
            case "LOWER" | "UPPER":
                return Value(f"{name.lower()}({_text(values[0])})", Kind.TEXT)
            case "COALESCE":
                kinds = {value.kind for value in values} - {Kind.NOTHING}
                kind = kinds.pop() if len(kinds) == 1 else Kind.TEXT
                listed = ", ".join(_as_kind(value, kind) for value in values)
                return Value(f"coalesce({listed})", kind)
            case "NULLIF":
                first, second = values
                test = _compared("=", first, second)
                return Value(f"(CASE WHEN {test} THEN NULL ELSE {first.sql} END)", first.kind)
            case "SUBSTRING":
                start, *rest = [f"CAST({_number(value)} AS BIGINT)" for value in values[1:]]
                return Value(_substring(_text(values[0]), start, rest), Kind.TEXT)
            case "TRIM":
                function = {"'LEADING'": "ltrim", "'TRAILING'": "rtrim"}.get(values[0].sql, "trim")
                return Value(f"{function}({_text(values[2])}, {_text(values[1])})", Kind.TEXT)
            case _:
                return self._time_call(name, arguments, values)

    def _time_call(
        self, name: str, arguments: Sequence[Expression], values: Sequence[Value]
    ) -> Value:
        if name == "UTCNOW":
            return Value("make_timestamp(epoch_us(now()))", Kind.TIME)
        if name == "TO_TIMESTAMP":
            return Value(_timestamp(_text(values[0])), Kind.TIME)
        if name == "TO_STRING":
            pattern = arguments[1]
            if not isinstance(pattern, Literal):
                raise SelectError("EvaluatorInvalidTimestampFormatPattern")
            return Value(_time_text(_time(values[0]), pattern.text), Kind.TEXT)
        part = values[0].sql.lower()
        if name == "EXTRACT":
            return Value(f"date_part({part}, {_time(values[1])})", Kind.NUMBER)
        if "timezone" in part:
            raise SelectError("IllegalSqlFunctionArgument")
        if name == "DATE_ADD":
            count = f"CAST({_number(values[1])} AS BIGINT)"
            return Value(
                f"({_time(values[2])} + {count} * INTERVAL 1 {part.strip(chr(39))})", Kind.TIME
            )
        return Value(f"date_sub({part}, {_time(values[1])}, {_time(values[2])})", Kind.NUMBER)

    # Columns

    def _path(self, path: Path) -> Value:
        steps = list(path.steps)
        first = steps[0]
        if first.name.lower() in self._aliases and (len(steps) > 1 or self._query.alias):
            steps.pop(0)
        if self._source.format == "json":
            if not steps:
                return Value(DOCUMENT, Kind.JSON)
            where = "$" + "".join(_json_step(step) for step in steps)
            return Value(f"json_extract({DOCUMENT}, {quoted(where)})", Kind.JSON)
        if len(steps) != 1 or steps[0].position is not None:
            raise SelectError("InvalidColumnIndex")
        return self._column(steps[0])

    def _column(self, step: Step) -> Value:
        columns, name = self._source.columns, step.name
        is_csv = self._source.format == "csv"
        for number, column in enumerate(columns, 1):
            if column and (
                column == name or (not step.is_quoted and column.lower() == name.lower())
            ):
                if is_csv:
                    return Value(f"c{number}", Kind.TEXT)
                return Value(identifier(column), Kind.NATIVE)
        if name.startswith("_") and name[1:].isdigit() and len(name) < 9:
            number = int(name[1:])
            if 1 <= number <= len(columns):
                if is_csv:
                    return Value(f"c{number}", Kind.TEXT)
                return Value(identifier(columns[number - 1]), Kind.NATIVE)
            raise SelectError("InvalidColumnIndex")
        raise SelectError("MissingHeaders", f"The column {name!r} is not in the file.")


def _check_size(characters: int) -> None:
    """Raises SelectError ExpressionTooLong."""
    if characters > SQL_CHARACTERS_MAX:
        raise SelectError("ExpressionTooLong", "The SQL expression needs too many repetitions.")


def _literal(literal: Literal) -> Value:
    if literal.kind is LiteralKind.NUMBER:
        return Value(literal.text, Kind.NUMBER)
    if literal.kind is LiteralKind.TEXT:
        return Value(quoted(literal.text), Kind.TEXT)
    if literal.kind is LiteralKind.BOOLEAN:
        return Value(literal.text, Kind.BOOLEAN)
    return Value("NULL", Kind.NOTHING)


def _json_step(step: Step) -> str:
    if step.position is not None:
        return f"[{step.position}]"
    if '"' in step.name:
        raise SelectError("ParseInvalidPathComponent")
    return f'."{step.name}"'


def identifier(name: str) -> str:
    """A column's name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: Value) -> str:
    if value.kind is Kind.TEXT or value.kind is Kind.NOTHING:
        return value.sql
    if value.kind is Kind.JSON:
        return f"({value.sql} ->> '$')"
    return f"CAST({value.sql} AS VARCHAR)"


def _number(value: Value) -> str:
    if value.kind in (Kind.NUMBER, Kind.NOTHING, Kind.NATIVE):
        return value.sql
    return f"TRY_CAST({_text(value)} AS DOUBLE)"


def _time(value: Value) -> str:
    if value.kind in (Kind.TIME, Kind.NATIVE):
        return value.sql
    return _timestamp(_text(value))


def _as_kind(value: Value, kind: Kind) -> str:
    if value.kind in (kind, Kind.NOTHING):
        return value.sql
    return _text(value) if kind is Kind.TEXT else value.sql


def _compared(operator: str, left: Value, right: Value) -> str:
    """A comparison, of whatever the two have in common."""
    kinds = {left.kind, right.kind}
    if Kind.NUMBER in kinds:
        return f"({_number(left)} {operator} {_number(right)})"
    if Kind.BOOLEAN in kinds:
        sides = [
            side.sql if side.kind is Kind.BOOLEAN else f"TRY_CAST({_text(side)} AS BOOLEAN)"
            for side in (left, right)
        ]
        return f"({sides[0]} {operator} {sides[1]})"
    if Kind.TIME in kinds:
        return f"({_time(left)} {operator} {_time(right)})"
    if Kind.NATIVE in kinds:
        return f"({left.sql} {operator} {right.sql})"
    if kinds == {Kind.JSON}:
        numbers = f"{_number(left)} {operator} {_number(right)}"
        texts = f"{_text(left)} {operator} {_text(right)}"
        return f"coalesce({numbers}, {texts})"
    return f"({_text(left)} {operator} {_text(right)})"


def _cast(value: Value, type_name: str) -> Value:
    if type_name == "TIMESTAMP":
        return Value(_time(value), Kind.TIME)
    sql = value.sql if value.kind in (Kind.NUMBER, Kind.NATIVE, Kind.BOOLEAN) else _text(value)
    kind = {
        "BOOLEAN": Kind.BOOLEAN,
        "VARCHAR": Kind.TEXT,
    }.get(type_name, Kind.NUMBER)
    return Value(f"CAST({sql} AS {type_name})", kind)


def _timestamp(text: str) -> str:
    """A time from a text, of which all behind the year may be missing (``2020T``, ``2020-05T``)."""
    whole = f"rtrim({text}, 'T')"
    for pattern in (r"^(\d{4})$", r"^(\d{4}-\d{2})$"):
        whole = f"regexp_replace({whole}, {quoted(pattern)}, {quoted(chr(92) + '1-01')})"
    return f"timezone('UTC', CAST({whole} AS TIMESTAMPTZ))"


def _time_text(time: str, pattern: str) -> str:
    pieces = [piece for piece in time_pieces(pattern) if piece.pattern]
    _check_size(len(time) * len(pieces))
    shown = []
    for piece in pieces:
        sql = f"strftime({time}, {quoted(piece.pattern)})"
        if piece.is_number:
            sql = f"CAST(CAST({sql} AS BIGINT) AS VARCHAR)"
        elif piece.characters_max is not None:
            sql = f"substring({sql}, 1, {piece.characters_max})"
        shown.append(sql)
    return f"({' || '.join(shown)})" if shown else "''"


def _substring(text: str, start: str, rest: Sequence[str]) -> str:
    """SQL's rule: positions before the first count towards the length."""
    if not rest:
        return f"substring({text}, greatest({start}, 1))"
    return (
        f"substring({text}, greatest({start}, 1), "
        f"greatest({rest[0]} - greatest(1 - ({start}), 0), 0))"
    )


def _name_of(expression: Expression) -> str:
    """What a column is called that has no alias: the last name of its path."""
    if isinstance(expression, Path):
        for step in reversed(expression.steps):
            if step.name:
                return step.name
    return ""


def _has_aggregate(expression: Expression | None) -> bool:
    if isinstance(expression, Aggregate):
        return True
    if expression is None or isinstance(expression, Literal | Path):
        return False
    return any(_has_aggregate(part) for part in _parts(expression))


def _parts(expression: Expression) -> list[Expression | None]:
    match expression:
        case Unary(_, operand) | Cast(operand, _) | Is(operand, _, _):
            return [operand]
        case Binary(_, left, right):
            return [left, right]
        case Between(operand, low, high, _):
            return [operand, low, high]
        case Within(operand, items, _):
            return [operand, *items]
        case Like(operand, pattern, _, _):
            return [operand, pattern]
        case Case(operand, branches, default):
            return [operand, default, *(part for branch in branches for part in branch)]
        case Call(_, arguments):
            return list(arguments)
    return []
