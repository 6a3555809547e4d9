"""What does an expression over an item and an answer come to?  A small language in place of somebody's Python.

Python's parser reads it; of the tree only the nodes named here are taken, and this module computes them itself: no attribute of an
object is ever looked up (`item.x` is a key), no function is a value, and nothing is compiled or run.  Every step costs by the size of
what it touches, and an expression that costs too much ends as an error; so do numbers and texts that grow too large.  Raises
InvalidRequest.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from typing import Any

from models.errors import InvalidRequest
from models.grading.functions import FUNCTIONS, RAISED, Budget, checked, size_of
from models.grading.template import MISSING, Namespace

SOURCE_CHARACTERS = 2_000
_DEPTH_MOST = 30
_SHOWN_CHARACTERS = 60

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda left, right: float(left) ** float(right),  # an integer's power could fill the memory
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_LEAVES: tuple[type[ast.AST], ...] = (
    ast.expr_context,
    *_ARITHMETIC,
    *_COMPARISONS,
    *_UNARY,
    ast.boolop,
    ast.comprehension,
    ast.Slice,
)


class Expression:
    """Read once, computed for many items; `names` are those it may begin a path with."""

    def __init__(self, source: str, names: frozenset[str]) -> None:
        if len(source) > SOURCE_CHARACTERS:
            raise InvalidRequest(f"an expression has at most {SOURCE_CHARACTERS:,} characters")
        self._tree = _parsed(source)
        _check(self._tree, names)

    def value(self, namespace: Namespace) -> Any:
        """A number, a text, a list, true, false or null.  Raises InvalidRequest."""
        try:
            return _Run(Budget()).of(self._tree, namespace)
        except RAISED as error:
            raise InvalidRequest(f"the expression cannot be computed: {error or type(error).__name__}") from None

    def number(self, namespace: Namespace) -> float:
        found = self.value(namespace)
        if not isinstance(found, int | float):
            raise InvalidRequest("the expression is neither a number nor true or false")
        return float(found)


class _Run:
    """One computation; what it costs is counted."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def of(self, node: ast.expr, scope: Namespace) -> Any:
        self._budget.spend(1)
        found = _NODES[type(node)](self, node, scope)
        return checked(found)

    def _constant(self, node: ast.Constant, _: Namespace) -> Any:
        return node.value

    def _name(self, node: ast.Name, scope: Namespace) -> Any:
        return scope[node.id] if node.id in scope else _missing(node)

    def _attribute(self, node: ast.Attribute, scope: Namespace) -> Any:
        return _entry(self.of(node.value, scope), node.attr, node)

    def _subscript(self, node: ast.Subscript, scope: Namespace) -> Any:
        holder = self.of(node.value, scope)
        if isinstance(node.slice, ast.Slice):
            return self._sliced(holder, node.slice, scope)
        return _entry(holder, self.of(node.slice, scope), node)

    def _sliced(self, holder: Any, bounds: ast.Slice, scope: Namespace) -> Any:
        if not isinstance(holder, str | list):
            raise TypeError("only texts and lists have parts")
        low, high = (None if each is None else self.of(each, scope) for each in (bounds.lower, bounds.upper))
        self._budget.spend(size_of(holder))
        return holder[low:high]

    def _both(self, node: ast.BoolOp, scope: Namespace) -> Any:
        wanted = isinstance(node.op, ast.Or)
        found: Any = None
        for each in node.values:
            found = self.of(each, scope)
            if bool(found) is wanted:
                return found
        return found

    def _unary(self, node: ast.UnaryOp, scope: Namespace) -> Any:
        return _UNARY[type(node.op)](self.of(node.operand, scope))

    def _binary(self, node: ast.BinOp, scope: Namespace) -> Any:
        left, right = self.of(node.left, scope), self.of(node.right, scope)
        joins = isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, str | list)
        if not joins and not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise TypeError("only numbers are computed with; + also joins two texts or two lists")
        self._budget.spend(size_of(left) + size_of(right))
        return _ARITHMETIC[type(node.op)](left, right)

    def _compared(self, node: ast.Compare, scope: Namespace) -> bool:
        left = self.of(node.left, scope)
        for sign, following in zip(node.ops, node.comparators, strict=True):
            right = self.of(following, scope)
            self._budget.spend(size_of(left) + size_of(right))
            if not _COMPARISONS[type(sign)](left, right):
                return False
            left = right
        return True

    def _chosen(self, node: ast.IfExp, scope: Namespace) -> Any:
        return self.of(node.body if self.of(node.test, scope) else node.orelse, scope)

    def _list(self, node: ast.List | ast.Tuple, scope: Namespace) -> list[Any]:
        return [self.of(each, scope) for each in node.elts]

    def _each(self, node: ast.ListComp | ast.GeneratorExp, scope: Namespace) -> list[Any]:
        return list(self._turns(node, scope))

    def _turns(self, node: ast.ListComp | ast.GeneratorExp, scope: Namespace) -> Iterator[Any]:
        loop = node.generators[0]
        assert isinstance(loop.target, ast.Name)
        holder = self.of(loop.iter, scope)
        if not isinstance(holder, list | str | Mapping):
            raise TypeError("only lists, texts and objects are gone through")
        for each in holder:
            inner = {**scope, loop.target.id: each}
            if all(self.of(condition, inner) for condition in loop.ifs):
                yield self.of(node.elt, inner)

    def _call(self, node: ast.Call, scope: Namespace) -> Any:
        assert isinstance(node.func, ast.Name)
        values = [self.of(each, scope) for each in node.args]
        self._budget.spend(sum(map(size_of, values)))
        return FUNCTIONS[node.func.id](self._budget, *values)


_NODES: dict[type[ast.expr], Callable[[_Run, Any, Namespace], Any]] = {
    ast.Constant: _Run._constant,  # noqa: SLF001 -- the table of the class above
    ast.Name: _Run._name,  # noqa: SLF001
    ast.Attribute: _Run._attribute,  # noqa: SLF001
    ast.Subscript: _Run._subscript,  # noqa: SLF001
    ast.BoolOp: _Run._both,  # noqa: SLF001
    ast.UnaryOp: _Run._unary,  # noqa: SLF001
    ast.BinOp: _Run._binary,  # noqa: SLF001
    ast.Compare: _Run._compared,  # noqa: SLF001
    ast.IfExp: _Run._chosen,  # noqa: SLF001
    ast.List: _Run._list,  # noqa: SLF001
    ast.Tuple: _Run._list,  # noqa: SLF001
    ast.ListComp: _Run._each,  # noqa: SLF001
    ast.GeneratorExp: _Run._each,  # noqa: SLF001
    ast.Call: _Run._call,  # noqa: SLF001
}


def _parsed(source: str) -> ast.expr:
    if "\\" in source:
        raise InvalidRequest("a backslash is not taken; a pattern can do without: [0-9] for a digit, [.] for a dot")
    try:
        return ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        told = error.msg if isinstance(error, SyntaxError) else "nested too deeply, or not a text"
        raise InvalidRequest(f"the expression cannot be read: {told}") from None


def _check(tree: ast.expr, names: frozenset[str]) -> None:
    """Whether every node is one of the language's.  Without recursion, since the depth is what is asked."""
    left: list[tuple[ast.AST, int, frozenset[str]]] = [(tree, 0, names)]
    while left:
        node, depth, known = left.pop()
        if depth > _DEPTH_MOST:
            raise InvalidRequest("the expression is nested too deeply")
        if isinstance(node, ast.ListComp | ast.GeneratorExp):
            known |= {_loop_name(node)}
        _check_node(node, known)
        children = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
        left += [(child, depth + 1, known) for child in children]


def _check_node(node: ast.AST, known: frozenset[str]) -> None:
    if isinstance(node, ast.Call):
        _check_call(node)
    elif isinstance(node, ast.Name) and node.id not in known:
        raise InvalidRequest(f"{node.id[:_SHOWN_CHARACTERS]!r} is not known here; {', '.join(sorted(known))} are")
    elif isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | None):
        raise InvalidRequest("only numbers, texts, True, False and None can be written out")
    elif isinstance(node, ast.Slice) and node.step is not None:
        raise InvalidRequest("a part has a beginning and an end, no step")
    elif type(node) not in _NODES and not isinstance(node, _LEAVES):
        raise InvalidRequest(f"{type(node).__name__} is not part of the language")


def _check_call(node: ast.Call) -> None:
    if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
        raise InvalidRequest(f"only these can be called: {', '.join(sorted(FUNCTIONS))}")
    if node.keywords or any(isinstance(each, ast.Starred) for each in node.args):
        raise InvalidRequest(f"{node.func.id} takes plain values")
    try:
        signature(FUNCTIONS[node.func.id]).bind(None, *node.args)
    except TypeError:
        raise InvalidRequest(f"{node.func.id} does not take {len(node.args)} values") from None


def _loop_name(node: ast.ListComp | ast.GeneratorExp) -> str:
    loop = node.generators[0]
    if len(node.generators) > 1 or loop.is_async or not isinstance(loop.target, ast.Name):
        raise InvalidRequest("one `for` with one name is taken")
    return loop.target.id


def _entry(holder: Any, key: Any, node: ast.expr) -> Any:
    if isinstance(holder, Mapping) and isinstance(key, str):
        return holder[key] if key in holder else _missing(node)
    if isinstance(holder, str | list) and isinstance(key, int):
        return holder[key] if -len(holder) <= key < len(holder) else _missing(node)
    return _missing(node)


def _missing(node: ast.expr) -> Any:
    path = ast.unparse(node)[:_SHOWN_CHARACTERS]
    raise InvalidRequest(f"there is no {path}", param=path, code=MISSING)
