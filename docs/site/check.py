"""Check a built site: `python docs/site/check.py site` prints each fault and ends with status 1 if there is one.

No page may take a script, a style, a font or a picture from another host, its own scripts included, and every link within
the site has to lead to a file and, behind a #, to a place in it. Files of scripts are not read: the theme's name hosts that
they ask for what no page here has.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src",),
    "input": ("src",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src",),
    "track": ("src",),
    "video": ("src", "poster"),
}
"""Attributes whose target a browser loads with the page, by tag."""
SOURCE_SETS = ("srcset", "imagesrcset")
"""Attributes with several addresses, each before its width or density."""
LOADED_LINKS = {"icon", "stylesheet", "preload", "modulepreload", "preconnect", "dns-prefetch"}
"""Relations of <link> whose target a browser loads or connects to."""
ADDRESS_IN_STYLE = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")
ADDRESS_IN_SET = re.compile(r"[\s,]*(\S*[^\s,])(?:\s+[^,\s]+)?\s*(?:,|$)")
ADDRESS_IN_SCRIPT = re.compile(r"""["'`]((?:https?:|wss?:)?//[^"'`\s]+)""")
"""A text of a script that begins as an address of another host."""
NAMES = ("http://www.w3.org/",)
"""Beginnings of names that only look like an address: those of XML's vocabularies."""
SCRIPTS = {"", "module", "text/javascript", "application/javascript"}
"""Types of <script> that a browser runs; any other is data."""


class Page(NamedTuple):
    """Addresses in a page: what it loads, where its links lead, and the places that links can lead to."""

    loaded: list[str]
    links: list[str]
    places: set[str]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.page = Page([], [], set())
        self.within_style = False
        self.within_script = False

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.within_style = tag == "style"
        self.within_script = tag == "script" and values.get("type", "").lower() in SCRIPTS
        self.page.places.update(values[name] for name in ("id", "name") if name in values)
        self.page.loaded.extend(_addresses(values.get("style", "")))
        # The theme draws diagrams by a script of another host.
        if "mermaid" in values.get("class", "").split():
            self.page.loaded.append("https://mermaid")
        self.page.loaded.extend(values[name] for name in LOADED.get(tag, ()) if name in values)
        for name in SOURCE_SETS:
            self.page.loaded.extend(ADDRESS_IN_SET.findall(values.get(name, "")))
        for name, value in values.items():
            if name.startswith("on"):
                self.page.loaded.extend(_addresses_in_script(value))
        # A page within the page, whose links lead where its own file would.
        if "srcdoc" in values:
            self.page.loaded.extend(_read_text(values["srcdoc"]).loaded)
        if tag == "link" and "href" in values and LOADED_LINKS & set(values.get("rel", "").split()):
            self.page.loaded.append(values["href"])
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])

    def handle_endtag(self, tag):
        self.within_style = self.within_script = False

    def handle_data(self, data):
        if self.within_style:
            self.page.loaded.extend(_addresses(data))
        if self.within_script:
            self.page.loaded.extend(_addresses_in_script(data))


def _addresses(style):
    """Return the addresses in a style sheet."""
    return [first or second for first, second in ADDRESS_IN_STYLE.findall(style)]


def _addresses_in_script(script):
    """Return the addresses of other hosts in a script."""
    return [address for address in ADDRESS_IN_SCRIPT.findall(script) if not address.startswith(NAMES)]


def _read_text(html):
    """Return the addresses in the text of a page."""
    reader = _Reader()
    reader.feed(html)
    return reader.page


def _is_elsewhere(address):
    """Return whether an address is on another host; what stands in the page itself is not."""
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def _broken(link, path, pages):
    """Return what is wrong with a link of the page at `path`, or None."""
    parts = urlsplit(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "there is no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
        return "there is no such place in the page"
    return None


def check(folder):
    """Return the faults of a built site, a line each. Raises `FileNotFoundError` if the folder has no pages."""
    folder = Path(folder).resolve()
    pages = {path: _read_text(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    if not pages:
        raise FileNotFoundError(f"{folder} has no pages")
    faults = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        faults += [f"{name}: loads {address} from another host" for address in page.loaded if _is_elsewhere(address)]
        # The page of a wrong address links from the root of a server, wherever that is.
        within = [link for link in page.links if not _is_elsewhere(link) and name.name != "404.html"]
        here = [address for address in page.loaded if not _is_elsewhere(address) and name.name != "404.html"]
        for link in within + [address for address in here if not address.startswith("data:")]:
            fault = _broken(link, path, pages)
            if fault:
                faults.append(f"{name}: {link}: {fault}")
    for path in sorted(folder.rglob("*.css")):
        for address in _addresses(path.read_text()):
            if _is_elsewhere(address):
                faults.append(f"{path.relative_to(folder)}: loads {address} from another host")
    return faults


if __name__ == "__main__":
    all_faults = check(sys.argv[1])
    for fault in all_faults:
        print(fault)
    print(f"{sys.argv[1]}: {len(all_faults)} faults")
    sys.exit(1 if all_faults else 0)
