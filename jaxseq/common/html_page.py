"""Render Markdown as one HTML file that is complete in itself: no network and no second file.

The Markdown is the source; the page adds a list of contents, badges, and the files that are linked.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from string import Template
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from jaxseq.common.errors import UsageError

STYLE = Path(__file__).with_name("html_page.css")
TEMPLATE = Path(__file__).with_name("html_page.html")
MEDIA_TYPES = {".mid": "audio/midi", ".png": "image/png", ".wav": "audio/wav"}
"""Media types by suffix; any other file is a download only."""
ROLES = {
    "table_open": "table",
    "thead_open": "rowgroup",
    "tbody_open": "rowgroup",
    "tr_open": "row",
    "th_open": "columnheader",
    "td_open": "cell",
}
"""ARIA roles by token: on a narrow screen the style lays verdicts out as cards, and they must remain a table."""


NO_BADGES: MappingProxyType[str, str] = MappingProxyType({})
NO_FILES: MappingProxyType[str, bytes] = MappingProxyType({})


def html(
    markdown: str,
    folder: Path,
    badges: Mapping[str, str] = NO_BADGES,
    after_lead: str = "",
    files: Mapping[str, bytes] = NO_FILES,
    embed: bool = True,
) -> str:
    """Render Markdown as one HTML file, which is well-formed XML too.

    badges      the style's class of each strong text that is shown as a badge; text that only looks like one is escaped
                in the Markdown
    files       content of files that are not in the folder yet, by their path from it
    after_lead  HTML between the text before the first section and the sections
    embed       whether files that the text links to are embedded; or else links lead to them, beside the page

    Pictures by their paths from `folder` are embedded, and sounds and other files unless `embed` is false. HTML in the
    text is shown as text. Raises `UsageError` for a file that cannot be read and for a picture that is not a PNG.
    """
    environment = {"folder": folder, "badges": badges, "files": files, "embed": embed}
    tokens = PARSER.parse(markdown, environment)
    _mark_tables(tokens, badges)
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
        after_lead=f'<div class="after-lead">\n{after_lead}</div>\n' if after_lead else "",
        contents="".join(contents),
        body=body,
    )


def script_data(content: Mapping[str, object]) -> str:
    """Return the data of a script as JSON, in which nothing that a user named ends the script or the page."""
    data = json.dumps(content, allow_nan=False)
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return data


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


def _mark_tables(tokens: Sequence[Token], badges: Mapping[str, str]) -> None:
    strong_badges = frozenset(f"**{badge}**" for badge in badges)
    start = 0
    for position, token in enumerate(tokens):
        if token.type == "table_open":
            start = position
            caption = _caption(tokens[max(0, start - 3) : start])
            if caption is not None:
                caption.attrs |= {"class": "caption", "id": f"caption-{start}"}
                token.meta["caption"] = f"caption-{start}"
        elif token.type == "table_close":
            _mark_table(tokens[start:position], strong_badges)


def _caption(before: Sequence[Token]) -> Token | None:
    """Return the opening of the paragraph before a table if it is the table's caption: if it begins in bold."""
    if len(before) < 3 or before[0].type != "paragraph_open" or not before[1].content.startswith("**"):
        return None
    return before[0]


def _mark_table(tokens: Sequence[Token], strong_badges: frozenset[str]) -> None:
    """Tell the style and screen readers what is in a table."""
    if any(token.content in strong_badges for token in tokens):
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
        """Show a badge as one."""
        badge = env["badges"].get(tokens[idx + 1].content)
        return f'<strong class="verdict {badge}">' if badge else "<strong>"

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Let a wide table scroll by itself, so that the page does not."""
        caption = tokens[idx].meta.get("caption")
        label = f'aria-labelledby="{caption}"' if caption else 'aria-label="Table"'
        region = f'<div class="scroll" role="region" {label} tabindex="0">'
        return region + self.renderToken(tokens, idx, options, env)

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """End the table and the region that scrolls."""
        return self.renderToken(tokens, idx, options, env) + "</div>\n"

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Embed a picture with its size, so that nothing moves while it is decoded."""
        path = _local_file(str(tokens[idx].attrs["src"]), env)
        content = _content(path, env)
        width, height = _png_size(path, content)
        alt = self.renderInlineAsText(tokens[idx].children, options, env)
        return f'<img src="{_data_address(path, content)}" width="{width}" height="{height}" alt="{escape(alt)}" />'

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Embed a file as a download, a WAV in a player; an address elsewhere stays a link."""
        address = str(tokens[idx].attrs["href"])
        if not (env["embed"] and _is_local(address)):
            return self.renderToken(tokens, idx, options, env)

        path = _local_file(address, env)
        data = _data_address(path, _content(path, env))
        if _is_sound(tokens[idx]):
            label = escape(tokens[idx + 1].content)
            return f'<audio controls="" preload="metadata" aria-label="{label}" src="{data}"></audio>'
        return f'<a download="{escape(path.name)}" href="{data}">'

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """End a link; the label of a sound, which follows its player, has no end tag."""
        opening = next(token for token in reversed(tokens[:idx]) if token.type == "link_open")
        return "" if env["embed"] and _is_sound(opening) else "</a>"


PARSER = MarkdownIt("zero", {"xhtmlOut": True}, renderer_cls=_Renderer).enable(
    ["backticks", "emphasis", "entity", "escape", "heading", "image", "link", "list", "table"]
)
"""Reads what our reports are written in; HTML is not among what it knows."""


def _local_file(address: str, env: EnvType) -> Path:
    return env["folder"] / unquote(address)


def read_file(path: Path) -> bytes:
    """Read a file that the page shows. Raises `UsageError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read a file of the report: {error.strerror or error}", where=path) from error


def _content(path: Path, env: EnvType) -> bytes:
    """Return the content of a local file, one that was handed over or one that is read."""
    name = path.relative_to(env["folder"]).as_posix()
    if name in env["files"]:
        return env["files"][name]
    return read_file(path)


def _png_size(path: Path, content: bytes) -> tuple[int, int]:
    """Width and height in pixels. Raises `UsageError` for a file that is not a PNG."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise UsageError("a figure of the report must be a PNG", where=path)
    return struct.unpack(">II", content[16:24])


def _data_address(path: Path, content: bytes) -> str:
    """The whole file as an address."""
    media_type = MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
