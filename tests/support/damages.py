"""Damage to the files of a finished folder, and the judgement of what commands make of it."""

import io
import os
import random
import re
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from itertools import combinations
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from jaxseq.checkpoint import records, run_seal
from jaxseq.common.errors import UsageError

LIMIT = 60
"""Seconds after which a command counts as hung."""


class Damage(NamedTuple):
    """A damage: what it does, and to which files or folders, by their paths in the finished folder.

    harm           is called with the damaged folder and the source of random places
    is_of_content  whether it changes the bytes of one file and nothing else: who does not open the file cannot notice
    """

    what: str
    names: tuple[str, ...]
    harm: Callable[[Path, random.Random], None]
    is_of_content: bool = False

    def __str__(self) -> str:
        return f"{', '.join(self.names)}: {self.what}"

    def is_named(self, text: str) -> bool:
        return any(names(text, name) for name in self.names)


class Outcome(NamedTuple):
    """The end of a command: exit status, None for a traceback or a hang; what it printed; its result."""

    status: int | None
    out: str
    error: str
    result: object


# Damages ---------------------------------------------------------------------------------------------------------------


def flipped(part: int, parts: int) -> Callable[[Path, random.Random], None]:
    """Flip a bit at a random place in one of the equal parts of a file."""

    def flip(path: Path, draw: random.Random) -> None:
        content = bytearray(path.read_bytes())
        if content:
            place = int((part + draw.random()) / parts * len(content))
            content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content)

    return flip


def halved(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path, draw: random.Random) -> None:
    path.write_bytes(b"")


def deleted(path: Path, draw: random.Random) -> None:
    path.unlink()


def made_a_folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def linked_to_nothing(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to("nothing-of-this-name")


def linked_in_a_circle(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def made_a_pipe(path: Path, draw: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def binary(path: Path, draw: random.Random) -> None:
    path.write_bytes(bytes([0xFF, 0xFE, 0, 0x80]) * 50)


def deep(path: Path, draw: random.Random) -> None:
    path.write_text("[" * 100_000)


def huge(path: Path, draw: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(2**29)


def with_a_line_twice(path: Path, draw: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
    path.write_bytes(b"".join(lines))


def without_a_line(path: Path, draw: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines.pop(draw.randrange(len(lines)))
    path.write_bytes(b"".join(lines))


def with_lines_exchanged(path: Path, draw: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    first, second = draw.sample(range(len(lines)), 2)
    lines[first], lines[second] = lines[second], lines[first]
    path.write_bytes(b"".join(lines))


HARMS = (halved, emptied, deleted, made_a_folder, linked_to_nothing, made_a_pipe)
"""Damages of any file, besides flipped bits."""
CRAFTED = (linked_in_a_circle, binary, deep, huge)
"""Further damages of a file that is read as a whole, which somebody has thought of."""
OF_LINES = (with_a_line_twice, without_a_line, with_lines_exchanged) * 3
"""Further damages of a log of records, at other places each time."""
OF_CONTENT = (binary, deep, *OF_LINES)
LOGS = (".jsonl", run_seal.SEARCH_LOG)
"""Ends of the names of logs of records."""
READ = (".json", "_METADATA", *LOGS)
"""Ends of the names of files that are read as a whole."""
MEANINGFUL = (*READ, ".csv")
"""Ends of the names of files whose content is understood: of the others, the arrays apart, only the sha256 is compared."""


def damages(folder: Path, twin: Path, flips: Callable[[str], int]) -> Iterator[Damage]:
    """Yield every damage of every file of a folder; `twin` is one of the same kind, of another seed.

    `flips` returns the number of bits that are flipped in a file, one at a time; 0 leaves the file out.
    """
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    for number, name in enumerate(names):

        def on_file(harm: Callable[[Path, random.Random], None], name: str = name) -> Callable[..., None]:
            return lambda copy, draw: harm(copy / name, draw)

        parts = flips(name)
        if not parts:
            continue
        for part in range(parts):
            yield Damage("a bit flipped", (name,), on_file(flipped(part, parts)), is_of_content=True)
        harms = [*HARMS]
        if name.endswith(READ):
            harms += CRAFTED
        if name.endswith(LOGS):
            harms += OF_LINES
        for harm in harms:
            what = harm.__name__.replace("_", " ")
            yield Damage(what, (name,), on_file(harm), is_of_content=harm in OF_CONTENT)

        other = names[number - 1]
        yield Damage(f"a link to {other}", (name,), on_file(_linked_to(folder / other)))
        source = counterpart(folder, twin, name)
        if source is not None:
            yield Damage("that of another run", (name,), on_file(_replaced_by(source)))


def damages_of_run(run: Path, twin: Path) -> Iterator[Damage]:
    """Yield damages of more than one file of a run, and of its checkpoints' folders."""
    checkpoints = Path(run_seal.CHECKPOINTS)
    epochs = records.epochs(run / checkpoints)
    first, last = epochs[0], epochs[-1]
    every = (str(checkpoints), *(f"{checkpoints}/{epoch}" for epoch in epochs))

    def change(what: str, names: tuple[str, ...], harm: Callable[[Path], object]) -> Damage:
        return Damage(what, names, lambda copy, draw: harm(copy / checkpoints))

    def renamed(old: int, new: str) -> Callable[[Path], None]:
        def rename(folder: Path) -> None:
            shutil.rmtree(folder / new, ignore_errors=True)
            (folder / str(old)).rename(folder / new)

        return rename

    def replaced(name: str, replace: Callable[[Path], object]) -> Callable[[Path], None]:
        def harm(folder: Path) -> None:
            shutil.rmtree(folder / name)
            replace(folder / name)

        return harm

    for old, new in ((first, epochs[1]), (first, last), (last, first), (first, last + 1), (last, last + 1)):
        touched = (f"{checkpoints}/{old}", f"{checkpoints}/{new}")
        yield change(f"{old} renamed to {new}", touched, renamed(old, str(new)))
        yield change(f"{old} copied to {new}", touched, _tree_copied(str(old), str(new)))
    for odd in ("03", "007", "1e3", "-1", "\u0663", "2.5", "1.orbax-checkpoint-tmp"):
        yield change(f"{last} renamed to {odd}", every, renamed(last, odd))
        yield change(f"{last} copied to {odd}", every, _tree_copied(str(last), odd))
    for epoch in epochs:
        name = f"{checkpoints}/{epoch}"
        yield change("deleted", (name,), replaced(str(epoch), lambda _: None))
        yield change("made a file", (name,), replaced(str(epoch), lambda path: path.write_text("file")))
        yield change("an empty folder", (name,), replaced(str(epoch), Path.mkdir))
        yield change("a link to nothing", (name,), replaced(str(epoch), lambda path: path.symlink_to("nothing")))
        if (twin / name).is_dir():
            of_twin = partial(shutil.copytree, twin / name)
            yield change("that of another run", (name,), replaced(str(epoch), of_twin))
    yield change("the metadata deleted", every, replaced("metadata", lambda _: None))
    yield change("the metadata a file", every, replaced("metadata", lambda path: path.write_text("file")))
    yield change("the metadata a link", every, replaced("metadata", lambda path: path.symlink_to(twin)))
    yield change("deleted", every, shutil.rmtree)
    yield change("emptied", every, lambda folder: (shutil.rmtree(folder), folder.mkdir()))
    yield change("made a file", every, lambda folder: (shutil.rmtree(folder), folder.write_text("file")))
    of_twin = twin / checkpoints
    yield change(
        "those of another run", every, lambda folder: (shutil.rmtree(folder), shutil.copytree(of_twin, folder))
    )
    yield change("a link to another run's", every, lambda folder: (shutil.rmtree(folder), folder.symlink_to(of_twin)))

    files = sorted(path.name for path in run.iterdir() if path.is_file() and (twin / path.name).is_file())
    for pair in combinations(files, 2):
        yield Damage("those of another run", pair, _copied_from(twin, pair))
    for files_and_folder in ((name, run_seal.JUDGED) for name in files):
        yield Damage("deleted", files_and_folder, _deleted(files_and_folder))


def _tree_copied(old: str, new: str) -> Callable[[Path], None]:
    def copy(folder: Path) -> None:
        shutil.rmtree(folder / new, ignore_errors=True)
        shutil.copytree(folder / old, folder / new)

    return copy


def _copied_from(source: Path, names: tuple[str, ...]) -> Callable[[Path, random.Random], None]:
    def copy(folder: Path, draw: random.Random) -> None:
        for name in names:
            shutil.copyfile(source / name, folder / name)

    return copy


def _deleted(names: tuple[str, ...]) -> Callable[[Path, random.Random], None]:
    def delete(folder: Path, draw: random.Random) -> None:
        for name in set(names):
            (folder / name).unlink()

    return delete


def _linked_to(target: Path) -> Callable[[Path, random.Random], None]:
    def link(path: Path, draw: random.Random) -> None:
        path.unlink()
        path.symlink_to(target)

    return link


def _replaced_by(source: Path) -> Callable[[Path, random.Random], None]:
    def replace(path: Path, draw: random.Random) -> None:
        shutil.copyfile(source, path)

    return replace


def counterpart(folder: Path, twin: Path, name: str) -> Path | None:
    """Return the file of a twin in the place of a file; where files are named by hashes, that of the same number."""
    if (twin / name).is_file():
        return twin / name
    parent = Path(name).parent
    if not (twin / parent).is_dir():
        return None
    place = sorted(path.name for path in (folder / parent).iterdir()).index(Path(name).name)
    files = sorted((twin / parent).iterdir())
    return files[place] if place < len(files) and files[place].is_file() else None


# Outcomes --------------------------------------------------------------------------------------------------------------


class HungError(Exception):
    """A command that did not end in time."""


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise HungError(f"no end after {LIMIT} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def outcome(command: Callable[[], int], result: Callable[[], object]) -> Outcome:
    """Call a command and return its end, with the result if it succeeded."""
    out = io.StringIO()
    error = io.StringIO()
    status: int | None = None
    value: object = None
    try:
        with time_limit(), redirect_stdout(out), redirect_stderr(error):
            status = command()
            if status == 0:
                value = result()
    except UsageError as refusal:
        # Of a function that was called from Python.
        return Outcome(2, out.getvalue(), f"{refusal}\n", None)
    except Exception:
        return Outcome(None, out.getvalue(), traceback.format_exc(), None)
    return Outcome(status, out.getvalue(), error.getvalue(), value)


def fault(end: Outcome, sound: object, damage: Damage) -> str:
    """Return what is wrong with the end of a command: empty for the result of the sound folder, or one line of error."""
    if end.status is None:
        return f"traceback: {end.error.strip().splitlines()[-1][:300]}"
    if end.status == 0:
        return "" if end.result == sound else "another result, believed"
    if end.error.count("\n") != 1 or end.status not in (1, 2):
        return f"status {end.status} and {end.error.count(chr(10))} lines of error: {end.error[:500]}"
    if not damage.is_named(end.error):
        return f"the error does not name it: {end.error.strip()}"
    return ""


def names(text: str, name: str) -> bool:
    """Return whether a text names a damaged file, its epoch or, for the files of checkpoints, their folder."""
    path = Path(name)
    if path.name in text:
        return True
    if "checkpoints" not in path.parts:
        return False
    inner = path.parts[path.parts.index("checkpoints") + 1 :]
    if inner and re.match(r"\d+$", inner[0]):
        return f"epoch {inner[0]}" in text or f"checkpoints/{inner[0]}" in text
    return "checkpoints" in text


class Tally:
    """Figures of a kind of folder: damages, what `verify` says of them, and the ends of the commands after them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []
        self.reports: set[tuple[str, str]] = set()
        """What `verify` has said of a flipped bit in a file."""

    def __str__(self) -> str:
        counts = self.ends
        return (
            f"{self.kind}: {counts['damages']} damages, {counts['reported']} reported by verify; {counts['ends']} ends of "
            f"commands, {counts['harmless']} harmless, {counts['named']} named, {len(self.faults)} lost; left out: "
            f"{counts['not opened']} commands that do not open the file, {counts['alike']} like another flip"
        )


Command = Callable[[Path], Outcome]


class Commands(NamedTuple):
    """The commands that a kind of folder is given to, and what they do with a sound one.

    verify   reports damage
    readers  leave the folder as it is
    writers  may write into it: each has a copy for itself
    sound    results by the command's name
    opened   names of the files that a command opens, by the command's name
    """

    verify: Command
    readers: dict[str, Command]
    writers: dict[str, Command]
    sound: dict[str, object]
    opened: dict[str, set[str]]


def examine(tally: Tally, folder: Path, work: Path, damage: Damage, commands: Commands, draw: random.Random) -> None:
    """Damage a copy of a folder, and call the commands on it.

    A damage of content alone is kept from the commands that do not open the file. Of flipped bits in arrays, pictures and
    texts, on which `verify` says the same, the commands see one.
    """
    copy = work / "copy"
    renew(folder, copy)
    damage.harm(copy, draw)
    tally.ends["damages"] += 1

    checked = commands.verify(copy)
    reports = checked.status == 1 and damage.is_named(checked.out + checked.error)
    tally.ends["reported"] += reports
    if checked.status not in (0, 1) or (checked.status == 1 and not reports):
        tally.faults.append(f"{damage}: verify: status {checked.status}: {checked.out[-300:]}{checked.error[-500:]}")

    called = _concerned(tally, damage, commands, checked.out if reports else "")
    harmed = work / "harmed"
    if called & commands.writers.keys():
        renew(copy, harmed)
    for name, command in {**commands.readers, **commands.writers}.items():
        if name not in called:
            continue
        if name in commands.writers:
            renew(harmed, copy)
        end = command(copy)
        wrong = fault(end, commands.sound[name], damage)
        tally.ends["ends"] += 1
        if wrong:
            tally.faults.append(f"{damage}: {name}: {wrong}")
        elif end.status == 0:
            tally.ends["harmless"] += 1
        else:
            tally.ends["named"] += 1
            # A recipe of another study is sound by itself: only the command knows what was asked for.
            is_sound_recipe = damage.what == "that of another run" and damage.names[0] in ("study.json", "sweep.json")
            if not reports and not is_sound_recipe:
                tally.faults.append(f"{damage}: {name} refuses and verify is silent: {end.error.strip()}")
        if name in commands.writers and end.status == 0 and not wrong:
            after = commands.verify(copy)
            # A folder of runs is no judge of what its members read alone, such as their logs.
            if after.status != 0 and (name == "resume" or checked.status == 0):
                tally.faults.append(f"{damage}: after {name}, verify: {after.out[-300:]}{after.error[-300:]}")


def _concerned(tally: Tally, damage: Damage, commands: Commands, report: str) -> set[str]:
    """Return the names of the commands that a damage is tried on."""
    every = {*commands.readers, *commands.writers}
    if not damage.is_of_content:
        return every
    name = damage.names[0]
    opening = {command for command in every if name in commands.opened[command]}
    tally.ends["not opened"] += len(every - opening)

    if report and not name.endswith(MEANINGFUL):
        if (name, report) in tally.reports:
            tally.ends["alike"] += len(opening)
            return set()
        tally.reports.add((name, report))
    return opening


def renew(source: Path, copy: Path) -> None:
    """Make a folder a copy of another one, with its links and pipes; what is a copy already stays."""
    copy.mkdir(exist_ok=True)
    wanted = {entry.name: entry for entry in os.scandir(source)}
    for entry in os.scandir(copy):
        if entry.name in wanted and _are_alike(entry, wanted[entry.name]):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)

    for name, entry in wanted.items():
        target = copy / name
        if entry.is_dir(follow_symlinks=False):
            renew(Path(entry.path), target)
        elif entry.is_symlink() and not target.is_symlink():
            target.symlink_to(os.readlink(entry.path))
        elif not os.path.lexists(target):
            _copied(entry.path, str(target))


def _are_alike(copy: os.DirEntry, source: os.DirEntry) -> bool:
    """Return whether both are folders, or a file or link and its copy: no damage leaves the time of a change as it was."""
    kinds = [
        (entry.is_symlink(), entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False))
        for entry in (copy, source)
    ]
    if kinds[0] != kinds[1]:
        return False
    if copy.is_symlink():
        return os.readlink(copy.path) == os.readlink(source.path)
    if not copy.is_file():
        return copy.is_dir()
    states = [entry.stat(follow_symlinks=False) for entry in (copy, source)]
    return len({(state.st_size, state.st_mtime_ns) for state in states}) == 1


def _copied(source: str, target: str) -> None:
    """Copy a file, or make a pipe anew, which cannot be copied."""
    if Path(source).is_fifo():
        os.mkfifo(target)
    elif os.path.getsize(source) > 2**28:
        shutil.copyfile("/dev/null", target)
        os.truncate(target, os.path.getsize(source))
    else:
        shutil.copy2(source, target)
