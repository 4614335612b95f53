"""Render a report's Markdown as one HTML file that is complete in itself: no script, no network, no second file.

The Markdown is the source; the page adds a list of contents, badges for verdicts, and the files that are linked.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from string import Template
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from jaxseq.common.errors import UsageError
from jaxseq.report.document import read_file
from jaxseq.report.to_markdown import BADGES

STYLE = Path(__file__).with_name("page.css")
TEMPLATE = Path(__file__).with_name("page.html")
MEDIA_TYPES = {".mid": "audio/midi", ".png": "image/png", ".wav": "audio/wav"}
"""Media types by suffix; any other file is a download only."""
BADGE_CLASSES = {badge: verdict.lower().replace(" ", "-") for verdict, badge in BADGES.items()}
"""The style's class of a badge, by its text."""
STRONG_BADGES = frozenset(f"**{badge}**" for badge in BADGE_CLASSES)
"""Badges as they stand in Markdown; text that only looks like one is escaped there."""
ROLES = {
    "table_open": "table",
    "thead_open": "rowgroup",
    "tbody_open": "rowgroup",
    "tr_open": "row",
    "th_open": "columnheader",
    "td_open": "cell",
}
"""ARIA roles by token: on a narrow screen the style lays verdicts out as cards, and they must remain a table."""


def html(markdown: str, folder: Path) -> str:
    """Render Markdown as one HTML file, which is well-formed XML too.

    Pictures, sounds and other files that the text links to, by their paths from `folder`, are embedded. HTML in the
    text is shown as text. Raises `UsageError` for a file that cannot be read and for a picture that is not a PNG.
    """
    environment = {"folder": folder}
    tokens = PARSER.parse(markdown, environment)
    _mark_tables(tokens)
    _mark_paragraphs(tokens)
    headings = _mark_headings(tokens)

    first_section = next((at for at, token in enumerate(tokens) if token.tag == "h2"), len(tokens))
    lead, body = (
        PARSER.renderer.render(part, PARSER.options, environment)
        for part in (tokens[:first_section], tokens[first_section:])
    )
    contents = [f'<li><a href="#{anchor}">{escape(title)}</a></li>' for anchor, title in headings["h2"]]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=" ".join(escape(title) for _, title in headings["h1"]),
        style=STYLE.read_text(encoding="utf-8"),
        lead=lead,
        contents="".join(contents),
        body=body,
    )


def _mark_headings(tokens: Sequence[Token]) -> dict[str, list[tuple[str, str]]]:
    """Give each heading an anchor; return (anchor, plain text) of the headings by their tag."""
    headings: dict[str, list[tuple[str, str]]] = {"h1": [], "h2": []}
    for opening, children in _blocks(tokens, "heading_open"):
        level = headings[opening.tag]
        anchor = f"{opening.tag}-{len(level) + 1}"
        opening.attrSet("id", anchor)
        level.append((anchor, "".join(child.content for child in children)))
    return headings


def _mark_paragraphs(tokens: Sequence[Token]) -> None:
    """Give paragraphs that are a picture or a sound their class."""
    for opening, children in _blocks(tokens, "paragraph_open"):
        if [child.type for child in children] == ["image"]:
            opening.attrSet("class", "picture")
        elif any(map(_is_sound, children)):
            opening.attrSet("class", "sound")


def _blocks(tokens: Sequence[Token], kind: str) -> Iterator[tuple[Token, Sequence[Token]]]:
    """The opening token of each block of a kind, and the tokens of its text."""
    for opening, text in pairwise(tokens):
        if opening.type == kind:
            yield opening, text.children or []


def _mark_tables(tokens: Sequence[Token]) -> None:
    start = 0
    for position, token in enumerate(tokens):
        if token.type == "table_open":
            start = position
        elif token.type == "table_close":
            _mark_table(tokens[start:position], tokens[start - 3], f"caption-{start}")


def _mark_table(tokens: Sequence[Token], caption: Token, anchor: str) -> None:
    """Name a table by its caption, the paragraph before it, and tell the style and screen readers what is in it."""
    caption.attrs |= {"class": "caption", "id": anchor}
    tokens[0].meta["caption"] = anchor
    if any(token.content in STRONG_BADGES for token in tokens):
        tokens[0].attrSet("class", "verdicts")

    for number, token in enumerate(tokens):
        if token.type in ROLES:
            token.attrSet("role", ROLES[token.type])
        if token.type == "th_open":
            token.attrSet("scope", "col")
        # The first cell of a row names it; the cell's tokens are its opening, its text and its end.
        elif token.type == "td_open" and tokens[number - 1].type == "tr_open":
            token.tag = tokens[number + 2].tag = "th"
            token.attrs |= {"scope": "row", "role": "rowheader"}
        if token.attrs.pop("style", None) == "text-align:right":
            token.attrSet("class", "number")


def _is_sound(token: Token) -> bool:
    if token.type != "link_open":
        return False
    address = str(token.attrs["href"])
    return _is_local(address) and address.lower().endswith(".wav")


def _is_local(address: str) -> bool:
    """Tell a file beside the report from a place on the page and from an address elsewhere."""
    parts = urlsplit(address)
    return bool(parts.path) and not parts.scheme and not parts.netloc


class _Renderer(RendererHTML):
    """Markdown-it's renderer with the report's additions; each method renders the tokens of its name."""

    def text(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Keep "0.3 ± 0.1" and "95 %" on one line."""
        unbroken = re.sub(r"(?<=\d) (?=[±%])|(?<=±) (?=\d)", "\N{NO-BREAK SPACE}", tokens[idx].content)
        return escape(unbroken)

    def strong_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Show a verdict as a badge."""
        badge = BADGE_CLASSES.get(tokens[idx + 1].content)
        return f'<strong class="verdict {badge}">' if badge else "<strong>"

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Let a wide table scroll by itself, so that the page does not."""
        caption = tokens[idx].meta["caption"]
        region = f'<div class="scroll" role="region" aria-labelledby="{caption}" tabindex="0">'
        return region + self.renderToken(tokens, idx, options, env)

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """End the table and the region that scrolls."""
        return self.renderToken(tokens, idx, options, env) + "</div>\n"

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Embed a picture with its size, so that nothing moves while it is decoded."""
        path = _local_file(str(tokens[idx].attrs["src"]), env)
        width, height = _png_size(path)
        alt = self.renderInlineAsText(tokens[idx].children, options, env)
        return f'<img src="{_data_address(path)}" width="{width}" height="{height}" alt="{escape(alt)}" />'

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Embed a file as a download, a WAV in a player; an address elsewhere stays a link."""
        address = str(tokens[idx].attrs["href"])
        if not _is_local(address):
            return self.renderToken(tokens, idx, options, env)

        path = _local_file(address, env)
        data = _data_address(path)
        if _is_sound(tokens[idx]):
            label = escape(tokens[idx + 1].content)
            return f'<audio controls="" preload="metadata" aria-label="{label}" src="{data}"></audio>'
        return f'<a download="{escape(path.name)}" href="{data}">'

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """End a link; the label of a sound, which follows its player, has no end tag."""
        opening = next(token for token in reversed(tokens[:idx]) if token.type == "link_open")
        return "" if _is_sound(opening) else "</a>"


PARSER = MarkdownIt("zero", {"xhtmlOut": True}, renderer_cls=_Renderer).enable(
    ["backticks", "emphasis", "entity", "escape", "heading", "image", "link", "list", "table"]
)
"""Reads what `to_markdown` writes; HTML is not among what it knows."""


def _local_file(address: str, env: EnvType) -> Path:
    return env["folder"] / unquote(address)


def _png_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels. Raises `UsageError` for a file that is not a PNG."""
    content = read_file(path)
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise UsageError("a figure of the report must be a PNG", where=path)
    return struct.unpack(">II", content[16:24])


def _data_address(path: Path) -> str:
    """The whole file as an address."""
    media_type = MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")
    return f"data:{media_type};base64,{base64.b64encode(read_file(path)).decode()}"
