"""The player of composed pieces: what its page holds, and in a browser that score and piano roll follow."""

import base64
import json
import shutil
import subprocess
import zlib
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from pieces import of_lines

from jaxseq.common import html_page
from jaxseq.music.instruments import CHOIR, Performance
from jaxseq.music.notes import HOLD
from jaxseq.music.piece import Piece
from jaxseq.sample import player
from jaxseq.sample.player import Track

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "</script><script>alert(1)</script><b>"


def piece() -> Piece:
    """An upbeat of a quarter and two bars; the soprano's last note is held under a fermata."""
    return of_lines(
        [(69, 4), (71, 16), (72, 16)],
        [(64, 20), (0, 16)],
        [(60, 4), (60, 16), (59, 16)],
        [(45, 36)],
        first=12,
        fermatas=range(20, 36),
        name="sample-01",
    )


def section(score: str | None = None, name: str = "sample-01") -> str:
    track = Track(piece()._replace(name=name), ["A minor", EVIL], [f"{name}.mid"], score)
    return player.section([track], Performance(60.0, instrument=CHOIR), f"python -m jaxseq.sample {EVIL}")


def data(html: str) -> dict:
    found = ElementTree.fromstring(html).find(".//script[@id='player-data']")
    assert found is not None and found.text is not None
    return json.loads(found.text)


def test_notes_and_times_are_those_of_the_sound_with_its_fermatas() -> None:
    (shown,) = data(section())["pieces"]
    np.testing.assert_allclose(shown["times"][20], 20 / 4)
    np.testing.assert_allclose(shown["times"][-1], 20 / 4 + HOLD * 16 / 4)
    assert shown["voices"][0] == [[0, 4, 69], [4, 20, 71], [20, 36, 72]]
    # Rests do not sound, and a repeated note is struck again.
    assert shown["voices"][1] == [[0, 20, 64]] and len(shown["voices"][2]) == 3
    assert shown["bars"] == [[4, 1], [20, 2]]


def test_the_facts_of_a_piece_name_its_key_metre_tempo_and_bars() -> None:
    assert player.facts(piece(), "A minor", 60.0) == [
        "A minor",
        "4/4",
        "60 quarter notes a minute",
        "2 bars",
        "with an upbeat",
    ]


def test_names_of_the_user_end_no_script() -> None:
    root = ElementTree.fromstring(section(name=EVIL))
    assert len(list(root.iter("script"))) == 1 + len(player.SCRIPTS) and not list(root.iter("b"))
    assert data(section(name=EVIL))["pieces"][0]["name"] == EVIL


def test_a_score_is_packed_whole() -> None:
    packed = data(section("<svg>\N{MUSIC SHARP SIGN}</svg>"))["pieces"][0]["score"]
    assert zlib.decompress(base64.b64decode(packed)).decode() == "<svg>\N{MUSIC SHARP SIGN}</svg>"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")
@pytest.mark.parametrize("engraved", [True, False])
def test_score_and_piano_roll_follow_in_a_browser(engraved: bool, tmp_path: Path) -> None:
    heads = "".join(
        f'<g id="{name}" class="note"><rect class="notehead" x="{place}" width="10" height="10"/></g>'
        for name, place in (("v0s0n4", 10), ("v0s4n16", 100), ("v0s20n16", 200))
    )
    strip = f'<svg viewBox="0 0 400 100" xmlns="http://www.w3.org/2000/svg">{heads}</svg>'
    page = html_page.html("# Pieces", tmp_path, after_lead=section(strip if engraved else None))
    ask = """
        const view = frames[0], page = view.document, wait = () => new Promise((done) => setTimeout(done, 400));
        const roll = page.getElementById("player-roll"), box = roll.getBoundingClientRect();
        await wait();
        const key = (name) => page.body.dispatchEvent(new view.KeyboardEvent("keydown", { key: name, bubbles: true }));
        const lit = () => [...page.querySelectorAll("g.player-sounding")].map((node) => node.id).join("+");
        const rows = () => page.querySelectorAll("rect.player-sounding").length;
        const cursor = () => parseFloat(page.querySelector(".player-cursor")?.style.left);
        roll.dispatchEvent(new view.PointerEvent("pointerdown", { clientX: box.left + box.width / 2 }));
        const places = [lit(), rows(), cursor()];
        key("Home");
        key("ArrowRight");
        places.push(lit(), rows(), cursor());
        key("2");
        places.push([...page.querySelectorAll("#player-voices input")].map((input) => input.value).join(""));
        places.push(page.documentElement.scrollWidth <= 390, page.getElementById("player-problem").textContent);
        document.title = JSON.stringify(places)"""
    (tmp_path / "frame.html").write_text(
        f'<meta charset="utf-8"><iframe width="390" height="900" frameborder="0" srcdoc="{escape(page)}"></iframe>'
        f"<script>onload = async () => {{ {ask} }}</script>"
    )
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command += ["--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path}/frame.html"]
    dom = subprocess.run(command, capture_output=True, timeout=120).stdout.decode()
    title = dom.partition("<title>")[2].partition("</title>")[0]
    half, half_rows, half_at, bar, bar_rows, bar_at, volumes, fits, problem = json.loads(title)
    # At 5.5 of 11 seconds the last chord has just begun, in three voices; the first bar begins after one second.
    assert (half_rows, bar_rows, volumes, fits, problem) == (3, 4, "1011", True, "")
    if engraved:
        assert (half, bar) == ("v0s20n16", "v0s4n16") and half_at > bar_at > 0
    else:
        assert (half, bar, half_at, bar_at) == ("", "", None, None)


def test_links_of_the_page_lead_to_files_beside_it(tmp_path: Path) -> None:
    root = ElementTree.fromstring(
        html_page.html("# A\n\n[mid](a.mid) [wav](b.wav)", tmp_path, embed=False).partition("\n")[2]
    )
    assert [(link.get("href"), link.text) for link in root.iter("a")][1:] == [("a.mid", "mid"), ("b.wav", "wav")]
