"""Counters of how code reads: `python tests/support/counters.py [FOLDER]` prints a line for each room."""

import ast
import io
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "jaxseq"
SILENT_NAMES = frozenset(
    [
        "asked",
        "beside",
        "both",
        "each",
        "every",
        "found",
        "given",
        "here",
        "how",
        "kept",
        "known",
        "made",
        "mine",
        "nothing",
        "one",
        "ours",
        "said",
        "say",
        "some",
        "theirs",
        "there",
        "told",
        "wanted",
        "way",
        "ways",
        "what",
        "where",
        "whole",
    ]
)
"""Local names that say nothing of what they hold."""
PRAGMAS = ("# pyrefly:", "# noqa", "# type:", "# fmt:")
MOST_PARAMETERS, MOST_POSITIONAL = 7, 5


class Counts(NamedTuple):
    """What is counted over the files of a room; the first six are rates."""

    tokens_a_line: float
    conditional_expressions: float
    """In 1,000 code lines, as are the next two."""
    tuple_assignments: float
    comments: float
    silent_names: float
    """Share of the names that are assigned."""
    walrus: float
    """In 1,000 code lines."""
    nested_conditionals: int
    what_docstrings: int
    long_signatures: int
    """Functions of more than `MOST_PARAMETERS` parameters, `self` apart."""
    positional_calls: int
    """Calls with more than `MOST_POSITIONAL` positional arguments."""


def count(paths):
    """The counts over some files; lines of docstrings are no code lines."""
    lines = tokens = comments = conditionals = tuples = silent = stores = walrus = 0
    nested = what = signatures = calls = 0
    for path in paths:
        text = path.read_text()
        tree = ast.parse(text)
        code_lines = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER):
                tokens += 1
                code_lines.add(token.start[0])
            elif token.type == tokenize.COMMENT:
                comments += not token.string.startswith(PRAGMAS)
        lines += len(code_lines)

        for node in ast.walk(tree):
            if isinstance(node, ast.IfExp):
                conditionals += 1
                nested += any(isinstance(part, ast.IfExp) for part in (node.body, node.test, node.orelse))
            elif isinstance(node, ast.NamedExpr):
                walrus += 1
            elif isinstance(node, ast.Assign):
                tuples += isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                stores += 1
                silent += node.id in SILENT_NAMES
            elif isinstance(node, ast.Call):
                calls += len(node.args) > MOST_POSITIONAL
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                what += str(node.value.value).startswith("What")
            elif isinstance(node, ast.FunctionDef):
                signatures += len(parameters(node)) > MOST_PARAMETERS

    thousand = max(lines, 1) / 1000
    return Counts(
        tokens_a_line=tokens / max(lines, 1),
        conditional_expressions=conditionals / thousand,
        tuple_assignments=tuples / thousand,
        comments=comments / thousand,
        silent_names=silent / max(stores, 1),
        walrus=walrus / thousand,
        nested_conditionals=nested,
        what_docstrings=what,
        long_signatures=signatures,
        positional_calls=calls,
    )


def count_any(paths):
    """Uses of `Any` as a type, over some files."""
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in nodes)


def parameters(function):
    """Names of a function's parameters, `self` and `cls` apart."""
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def rooms(package=PACKAGE):
    """The files of each room of the package, by its name."""
    files = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        files.setdefault(room, []).append(path)
    files.pop("__init__", None)
    return files


def main(package):
    """Print a line for each room and one for all of them."""
    titles = [name.replace("_", " ")[:17] for name in Counts._fields]
    print(f"{'room':12}" + "".join(f"{title:>19}" for title in (*titles, "Any")))
    everything = rooms(package)
    everything["all"] = [path for paths in everything.values() for path in paths]
    for room, paths in everything.items():
        print(f"{room:12}" + "".join(f"{value:>19.3g}" for value in (*count(paths), count_any(paths))))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
