"""The messages of errors as the code writes them: each value is a numbered hole, `There is no {0} with this id.`"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Calls whose argument at this place is a message, or a part of one.
_CALLS = {"AppError": 1, "PriceError": 1, "RefusedError": 0, "PromptWarning": 1}
# How many names and functions are followed from a call to the text.
_DEPTH_MAX = 4
_HOLE = re.compile(r"\{\d+\}")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def messages_of(path: Path) -> tuple[str, ...]:
    """Return the messages of errors that a module raises, in the order of the text."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    messages = [text for call, scope in _calls(module, None) for text in _texts(call, scope, module, 0)]
    # A hole without words around it is another message's text.
    return tuple(dict.fromkeys(each for each in messages if re.search(r"[A-Za-z]{2}", _HOLE.sub("", each))))


def _calls(node: ast.AST, scope: Function | None) -> Iterator[tuple[ast.expr, Function | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            name = child.func.id if isinstance(child.func, ast.Name) else getattr(child.func, "attr", "")
            place = _CALLS.get(name)
            if place is not None and len(child.args) > place:
                yield child.args[place], scope
        yield from _calls(child, child if isinstance(child, Function) else scope)


def _texts(node: ast.expr, scope: Function | None, module: ast.Module, depth: int) -> list[str]:
    """Return the texts that an expression may have; none where it is computed elsewhere."""
    if depth > _DEPTH_MAX:
        return []
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr():
            return [_with_holes(node)]
        case ast.IfExp():
            return [text for part in (node.body, node.orelse) for text in _texts(part, scope, module, depth + 1)]
        case ast.BinOp(op=ast.Add()):
            parts = [_texts(part, scope, module, depth + 1) or ["{0}"] for part in (node.left, node.right)]
            return [left + _shifted(right, len(_HOLE.findall(left))) for left in parts[0] for right in parts[1]]
        case ast.Name():
            values = _values_of(node.id, scope, module)
            return [text for value in values for text in _texts(value, scope, module, depth + 1)]
        case ast.Call(func=ast.Name()):
            return [
                text for value, inner in _returned(node, module) for text in _texts(value, inner, module, depth + 1)
            ]
    return []


def _with_holes(node: ast.JoinedStr) -> str:
    parts, count = [], 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        else:
            parts.append(f"{{{count}}}")
            count += 1
    return "".join(parts)


def _shifted(text: str, by: int) -> str:
    return _HOLE.sub(lambda hole: f"{{{int(hole[0][1:-1]) + by}}}", text)


def _values_of(name: str, scope: Function | None, module: ast.Module) -> list[ast.expr]:
    """Return what is assigned to a name in a function, else in its module."""
    for nodes in (ast.walk(scope) if scope else (), module.body):
        values = []
        for node in nodes:
            if not isinstance(node, ast.Assign):
                continue
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id == name:
                values.append(node.value)
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                values += [value for each, value in pairs if isinstance(each, ast.Name) and each.id == name]
        if values:
            return values
    return []


def _returned(call: ast.Call, module: ast.Module) -> list[tuple[ast.expr, Function]]:
    """Return what a function of the same module returns."""
    functions = [
        each for each in module.body if isinstance(each, Function) and each.name == getattr(call.func, "id", "")
    ]
    return [
        (node.value, function)
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and node.value is not None
    ]
