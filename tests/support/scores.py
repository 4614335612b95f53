"""Small MusicXML scores, written by hand, for tests."""

import io
import zipfile

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "partwise.dtd">'
)


def note(pitch, duration, inside="", before=""):
    """A note such as F#4, or None for a rest; `inside` stands at its end, `before` at its beginning (a chord)."""
    if pitch is None:
        return f"<note>{before}<rest/><duration>{duration}</duration>{inside}</note>"
    alter = {"#": "<alter>1</alter>", "b": "<alter>-1</alter>"}.get(pitch[1:2], "")
    named = f"<pitch><step>{pitch[0]}</step>{alter}<octave>{pitch[-1]}</octave></pitch>"
    return f"<note>{before}{named}<duration>{duration}</duration>{inside}</note>"


def attributes(divisions=4, beats=4, unit=4, fifths=0, mode="major", more=""):
    key = f"<key><fifths>{fifths}</fifths><mode>{mode}</mode></key>"
    time = f"<time><beats>{beats}</beats><beat-type>{unit}</beat-type></time>"
    return f"<attributes><divisions>{divisions}</divisions>{key}{time}{more}</attributes>"


def score(soprano, alto=None, tenor=None, bass=None, others=(), names=("Soprano", "Alto", "Tenor", "Bass"), head=HEAD):
    """A score of bars, each a string; a voice without bars of its own has the soprano's."""
    voices = [soprano, alto or soprano, tenor or soprano, bass or soprano]
    named = [*others, *zip(names, voices, strict=True)]
    listed = "".join(
        f'<score-part id="P{i}"><part-name>{name}</part-name></score-part>' for i, (name, _) in enumerate(named)
    )
    parts = "".join(f'<part id="P{i}">{bars(part)}</part>' for i, (_, part) in enumerate(named))
    return f"{head}<score-partwise><part-list>{listed}</part-list>{parts}</score-partwise>".encode()


def bars(part):
    return "".join(f'<measure number="{number}">{bar}</measure>' for number, bar in enumerate(part, 1))


def compressed(content, path="score.xml", named=None):
    """The same as .mxl."""
    stream = io.BytesIO()
    container = f'<container><rootfiles><rootfile full-path="{named or path}"/></rootfiles></container>'
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", container)
        archive.writestr(path, content)
    return stream.getvalue()
