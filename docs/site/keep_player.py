"""Keep the player of composed pieces for the site: `python docs/site/keep_player.py FOLDER` writes docs/player/.

FOLDER is one that `python -m jaxseq.sample` wrote. The page and its MIDI files are kept; what is large (sound, pictures,
MusicXML) is not, and the page no longer names it.
"""

import re
import sys
from pathlib import Path

from jaxseq.common import files

PLAYER = Path(__file__).resolve().parents[1] / "player"
LARGE = r"[\w-]+\.(?:musicxml|png|wav)"


def without_large_files(page):
    """Return a player's page without its links to large files."""
    page = re.sub(rf'<a [^>]*href="{LARGE}"[^>]*>.*?</a>', "", page, flags=re.DOTALL)
    return re.sub(rf', "{LARGE}"', "", page)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    PLAYER.mkdir(exist_ok=True)
    files.write_text(PLAYER / "index.html", without_large_files((folder / "index.html").read_text()))
    for piece in sorted(folder.glob("*.mid")):
        files.write(PLAYER / piece.name, piece.read_bytes())
    print(PLAYER)
