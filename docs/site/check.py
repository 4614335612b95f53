"""Check a built site: `python docs/site/check.py site` prints each fault and ends with status 1 if there is one.

No page may take a script, a style, a font or a picture from another host, and every link within the site has to lead to
a file and, behind a #, to a place in it.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LOADED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "script": "src",
    "source": "src",
    "video": "src",
}
"""Attributes whose target a browser loads with the page."""
LOADED_LINKS = {"icon", "stylesheet", "preload", "modulepreload", "preconnect", "dns-prefetch"}
"""Relations of <link> whose target a browser loads or connects to."""
ADDRESS_IN_STYLE = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


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

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.within_style = tag == "style"
        self.page.places.update(values[name] for name in ("id", "name") if name in values)
        self.page.loaded.extend(_addresses(values.get("style", "")))
        # The theme draws diagrams by a script of another host.
        if "mermaid" in values.get("class", "").split():
            self.page.loaded.append("https://mermaid")
        if LOADED.get(tag) in values:
            self.page.loaded.append(values[LOADED[tag]])
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").split()):
            self.page.loaded.append(values["href"])
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])

    def handle_data(self, data):
        if self.within_style:
            self.page.loaded.extend(_addresses(data))


def _addresses(style):
    """Return the addresses in a style sheet."""
    return [first or second for first, second in ADDRESS_IN_STYLE.findall(style)]


def _read(path):
    """Return the addresses in a page."""
    reader = _Reader()
    reader.feed(path.read_text())
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
    pages = {path: _read(path) for path in sorted(folder.rglob("*.html"))}
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
