"""The player of composed pieces in the site.

`python docs/site/player.py FOLDER` keeps the pieces of a folder that `python -m jaxseq.sample` wrote in docs/player/: their
MIDI, the report, and in pieces.json what the player says of them. What is large (sound, pictures, MusicXML) is not kept.
MkDocs makes the page of these while it builds the site, by `page`.
"""

import json
import re
import shlex
import sys
from html import unescape
from pathlib import Path

from jaxseq.common import files, html_page
from jaxseq.music.instruments import INSTRUMENTS, Performance
from jaxseq.music.midi import read as midi
from jaxseq.sample import player, report

KEPT = Path(__file__).resolve().parents[1] / "player"
FACTS_FILE = "pieces.json"
LARGE = re.compile(r"\[[\w.-]+\]\([\w-]+\.(?:musicxml|png|wav)\) ?")
"""A link of the report to a large file."""
COMMAND = re.compile(r'<code id="player-command">(.*?)</code>', re.DOTALL)


def _command(page):
    """Return the command of a page that composes its pieces again, without the place of its data on one machine."""
    words = shlex.split(unescape(COMMAND.search(page)[1]))
    if "--data.path" in words:
        option = words.index("--data.path")
        del words[option : option + 2]
    return shlex.join(words)


def keep(folder, kept=KEPT):
    """Keep the pieces of a folder of composed ones in `kept`."""
    record = json.loads((folder / report.SUMMARY_FILE).read_text())
    facts = {
        "command": _command((folder / "index.html").read_text()),
        "bpm": record["settings"]["bpm"],
        "instrument": record["settings"]["instrument"],
        "nats": {sample["name"]: -sample["log_likelihood_per_note"] for sample in record["samples"]},
    }

    kept.mkdir(exist_ok=True)
    for name in facts["nats"]:
        files.write(kept / f"{name}.mid", (folder / f"{name}.mid").read_bytes())
    text = LARGE.sub("", (folder / report.REPORT_FILE).read_text())
    files.write_text(kept / report.REPORT_FILE, text)
    files.write_text(kept / FACTS_FILE, json.dumps(facts, indent=1) + "\n")


def page(kept=KEPT):
    """Return the page of the kept pieces, as `jaxseq.sample` writes it, without links to files that were not kept."""
    facts = json.loads((kept / FACTS_FILE).read_text())
    tracks = []
    for name, nats in facts["nats"].items():
        file = f"{name}.mid"
        piece = midi.read(kept / file).piece
        words = player.facts(piece, report.key_name(piece), facts["bpm"])
        tracks.append(player.Track(piece, [*words, f"{nats:.3f} nats a note"], [file], score=None))

    performance = Performance(facts["bpm"], instrument=INSTRUMENTS[facts["instrument"]])
    section = player.section(tracks, performance, facts["command"])
    return html_page.html((kept / report.REPORT_FILE).read_text(), kept, after_lead=section, embed=False)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
    print(KEPT)
