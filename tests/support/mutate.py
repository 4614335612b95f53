"""Planted bugs: a change to one expression or statement of one function, held by syntax and not by text.

A pattern is Python in which a single capital letter stands for any expression, the same one wherever it comes again:
``jnp.tanh(A)`` -> ``A`` takes the tanh away, ``F * carry.c + B`` -> ``carry.c + B`` one factor of a sum. Formatting,
comments and the place in the file do not matter.
"""

import ast
import copy


class PatternError(AssertionError):
    """A pattern that does not match exactly one place."""


def mutate(source, function, right, wrong):
    """The source with the one place in `function` that `right` matches written as `wrong`.

    function  its name, with those of the functions around it: "layer_slots.total"

    Raises `PatternError` unless there is one function of that name, and one match in it.
    """
    tree = ast.parse(source)
    pattern = _parse(right)
    matches = []
    for statement in _body(find(tree, function)):
        for node in ast.walk(statement):
            bindings = {}
            if _matches(pattern, node, bindings):
                matches.append((node, bindings))
    if len(matches) != 1:
        raise PatternError(f"{right!r} is {len(matches)} times in {function}; expected once")

    node, bindings = matches[0]
    replacement = _Substitute(bindings).visit(_parse(wrong))
    changed = _Replace(node, replacement).visit(tree)
    return ast.unparse(ast.fix_missing_locations(changed)) + "\n"


def find(tree, function):
    """The definition of a function, by its dotted name within the module."""
    scope = tree
    for name in function.split("."):
        # Not only direct children: a definition may stand in a branch.
        definitions = [node for node in _definitions(scope) if node.name == name]
        if len(definitions) != 1:
            raise PatternError(f"{name} of {function} is defined {len(definitions)} times; expected once")
        scope = definitions[0]
    return scope


def _definitions(scope):
    """Functions and classes of a scope, without those inside them."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node
        else:
            yield from _definitions(node)


def _body(definition):
    """The statements of a definition, without its docstring."""
    has_docstring = ast.get_docstring(definition) is not None
    return definition.body[1:] if has_docstring else definition.body


def _parse(pattern):
    (statement,) = ast.parse(pattern).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def _is_wildcard(node):
    return isinstance(node, ast.Name) and len(node.id) == 1 and node.id.isupper()


def _matches(pattern, node, bindings):
    """Whether a node has the form of a pattern; fills in what its wildcards stand for."""
    if _is_wildcard(pattern):
        if not isinstance(node, ast.expr):
            return False
        bound = bindings.setdefault(pattern.id, node)
        # Reading and assigning are different nodes of the same name.
        return ast.unparse(bound) == ast.unparse(node)

    if isinstance(pattern, ast.AST):
        fields = [field for field in pattern._fields if field not in ("ctx", "kind", "type_comment")]
        return type(pattern) is type(node) and all(
            _matches(getattr(pattern, field), getattr(node, field), bindings) for field in fields
        )

    if isinstance(pattern, list):
        same_length = isinstance(node, list) and len(pattern) == len(node)
        return same_length and all(_matches(*pair, bindings) for pair in zip(pattern, node, strict=True))

    return type(pattern) is type(node) and pattern == node


class _Substitute(ast.NodeTransformer):
    """Puts what the wildcards stand for in their place."""

    def __init__(self, bindings):
        self.bindings = bindings

    def visit_Name(self, node):
        return copy.deepcopy(self.bindings[node.id]) if _is_wildcard(node) else node


class _Replace(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old, new):
        self.old = old
        self.new = new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)
