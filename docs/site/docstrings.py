"""Docstrings as Markdown: fields that stand in two aligned columns become a list.

An extension of griffe, which reads the package for the pages of the API.
"""

import re

import griffe

FIELD = re.compile(r"(?P<names>[\w.*]+(?:, [\w.*]+)*)(?P<gap> {2,})(?P<text>\S.*)")
"""A line that begins with the name of a field and, after two spaces or more, what it is."""


def _as_list(paragraph):
    """Return a paragraph of aligned fields as a list, and any other one as it is."""
    first = FIELD.fullmatch(paragraph[0])
    if first is None:
        return paragraph
    column = first.start("text")
    items = []
    for line in paragraph:
        field = FIELD.fullmatch(line)
        if field and field.start("text") == column:
            names = ", ".join(f"`{name}`" for name in field["names"].split(", "))
            items.append(f"- {names}: {field['text']}")
        elif line.startswith(" " * column):
            items.append("    " + line.strip())
        else:
            return paragraph
    return items


def as_markdown(docstring):
    """Return a docstring whose paragraphs of aligned fields are lists of Markdown."""
    paragraphs = [paragraph.splitlines() for paragraph in docstring.split("\n\n")]
    return "\n\n".join("\n".join(_as_list(paragraph)) for paragraph in paragraphs if paragraph)


class Fields(griffe.Extension):
    """Rewrite the docstring of every object that is read."""

    def on_object(self, *, obj, **kwargs):
        """Rewrite the docstring of an object, if it has one."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
