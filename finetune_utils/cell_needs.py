"""Which cells of a notebook need which earlier ones, read from the names they set and use."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

# These change the model that they are given first, so whoever uses it later needs the call.
CHANGERS = {"add_lora", "attach_adapter", "cast_weights", "train", "use_adapter"}


@dataclass
class Names:
    """What one cell needs from earlier cells, what it sets anew, may set, or changes in place."""

    needs: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)
    may_set: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    reads: dict[str, set[str]] = field(default_factory=dict)  # by function: the global names that it reads


def names_in(code: str) -> Names:
    """Read a cell's names, statement by statement: a name that the cell has set before it uses it is not needed.

    A name set under `if`, `for`, `while` or `try` may be set, since that branch may not run. A name is changed when a
    statement calls one of its methods or assigns one of its items, and when it is the first argument of a function in
    `CHANGERS`.
    """
    names = Names()
    tree = ast.parse(code)
    for statement in tree.body:
        _take(statement, names, sure=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.imports |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.reads[node.name] = _loads_and_stores(node)[0]
    return names


def needed_cells(codes: Sequence[str], wanted: Collection[int]) -> set[int]:
    """Return the positions of `wanted` and of all cells that they need, directly or through others.

    A function reads its names when it is called, so whoever uses it needs what was set or changed until then.
    """
    cells = [names_in(code) for code in codes]
    imported = {name for cell in cells for name in cell.imports}
    for cell in cells:
        cell.changes -= imported  # a call such as `torch.manual_seed(1)` changes no name of the lesson
    found, seen = set(wanted), set()
    todo = [(place, name) for place in found for name in cells[place].needs | cells[place].changes]
    while todo:
        place, name = todo.pop()
        if (place, name) in seen:
            continue
        seen.add((place, name))
        for before in range(place - 1, -1, -1):
            giver = cells[before]
            if name not in giver.sets | giver.may_set | giver.changes:
                continue
            todo += [(place, read) for read in giver.reads.get(name, ())]
            if before not in found:
                found.add(before)
                todo += [(before, need) for need in giver.needs | giver.changes]
            if name in giver.sets:
                break
    return found


def _take(statement: ast.stmt, names: Names, sure: bool) -> None:
    """Add one statement; `sure` is false below a branch or loop, which may not run."""
    if isinstance(statement, ast.For | ast.While | ast.If | ast.With | ast.Try):
        _take_block(statement, names, sure)
        return
    loads, stores = _loads_and_stores(statement)
    names.needs |= loads - names.sets
    names.changes |= _changed(statement) - names.sets
    if isinstance(statement, ast.AugAssign):
        names.needs |= stores - names.sets
    (names.sets if sure else names.may_set).update(stores)


def _take_block(block: ast.stmt, names: Names, sure: bool) -> None:
    """Add a compound statement: first its head, then what stands inside."""
    certain = sure and isinstance(block, ast.With)
    inner = Names(sets=set(names.sets))
    for part, value in ast.iter_fields(block):
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.stmt):
                _take(node, inner, sure=True)
            elif isinstance(node, ast.ExceptHandler):
                inner.sets |= {node.name} if node.name else set()
                for child in node.body:
                    _take(child, inner, sure=True)
            elif isinstance(node, ast.AST) and part != "target":
                _take_head(node, inner)
        if part == "target":  # fields come in order, but a loop reads what it walks over before it sets its names
            _take_head(block.iter, inner)
            inner.sets |= {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
    names.needs |= inner.needs
    names.changes |= inner.changes
    names.may_set |= inner.may_set
    (names.sets if certain else names.may_set).update(inner.sets - names.sets)


def _take_head(node: ast.AST, names: Names) -> None:
    if isinstance(node, ast.withitem):
        _take_head(node.context_expr, names)
        names.sets |= {n.id for n in ast.walk(node.optional_vars or ast.Tuple([])) if isinstance(n, ast.Name)}
    elif isinstance(node, ast.expr):
        loads, _ = _loads_and_stores(ast.Expr(node))
        names.needs |= loads - names.sets


def _loads_and_stores(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """The global names that a statement reads, also inside functions and comprehensions, and those it binds."""
    top = symtable.symtable(ast.unparse(statement), "cell", "exec")
    loads = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    stores = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    tables = list(top.get_children())
    while tables:
        table = tables.pop()
        tables += table.get_children()
        loads |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    return loads, stores


def _changed(statement: ast.stmt) -> set[str]:
    found: set[str] = set()
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        found |= _root(statement.value.func) if isinstance(statement.value.func, ast.Attribute) else set()
    if isinstance(statement, ast.Assign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        parts = [n for t in targets for n in (t.elts if isinstance(t, ast.Tuple) else [t])]
        found |= {name for n in parts if isinstance(n, ast.Attribute | ast.Subscript) for name in _root(n)}
    for call in (n for n in ast.walk(statement) if isinstance(n, ast.Call) and n.args):
        if isinstance(call.func, ast.Name) and call.func.id in CHANGERS:
            found |= _root(call.args[0])
    return found


def _root(node: ast.AST) -> set[str]:
    """The name at the start of `name.x[0].y`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()
