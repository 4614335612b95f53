"""Small editions of chorales and of piano rolls that nobody wrote."""

import io
import tarfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

BARS = 3


def chorale(seed: int, bars: int = BARS) -> np.ndarray:
    """Four voices in quarters, each within its range."""
    source = np.random.default_rng(seed)
    return np.repeat(np.array([70, 65, 58, 48]) + source.integers(-4, 5, (4 * bars, 4)), 4, axis=0)


def edition(folder: Path) -> Path:
    """An archive of twelve pieces, eight of them to train on; `chorale` n is called chorale_00n."""
    path = folder / "pieces.tgz"
    with tarfile.open(path, "w:gz") as file:
        for number in range(12):
            part = "train" if number < 8 else "valid" if number < 10 else "test"
            rows = "\n".join(",".join(map(str, row)) for row in chorale(number))
            content = f"note0,note1,note2,note3\n{rows}\n".encode()
            info = tarfile.TarInfo(f"{part}/chorale_{number:03d}.csv")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def uneven_edition(path: Path, steps: tuple[int, int] = (33, 70), low: int = 0) -> Path:
    """Pieces of different lengths, six of them to train on: each voice walks about its range. One is a near-duplicate."""
    random = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as archive:
        for part, count in {"train": 6, "valid": 2, "test": 3}.items():
            for number in range(count):
                moves = random.integers(-2, 3, (random.integers(*steps), 4)) * (random.random((1, 4)) < 0.9)
                notes = np.array([70, 63, 56, 48]) + low + np.clip(moves.cumsum(axis=0), -8, 8)
                lines = ["note0,note1,note2,note3", *(",".join(map(str, row)) for row in notes)]
                body = ("\n".join(lines) + "\n").encode()
                name = f"{part}/chorale_{'374' if (part, number) == ('test', 1) else f'{number:03}'}.csv"
                member = tarfile.TarInfo(f"jsb_chorales/{name}")
                member.size = len(body)
                archive.addfile(member, io.BytesIO(body))
    return path


def rolls(folder: Path) -> Path:
    """A file of twelve piano rolls, eight of them to train on: the keys of `chorale` in quarters."""
    pieces = []
    for number in range(12):
        quarters = chorale(number)[::4]
        roll = np.zeros((len(quarters), 88), np.uint8)
        np.put_along_axis(roll, quarters - 21, 1, axis=1)
        pieces.append(roll)

    parts = {"traindata": pieces[:8], "validdata": pieces[8:10], "testdata": pieces[10:]}
    path = folder / "rolls.mat"
    savemat(path, {name: _cells(part) for name, part in parts.items()})
    return path


def _cells(pieces: list[np.ndarray]) -> np.ndarray:
    """A MATLAB cell array of the pieces."""
    cells = np.empty((1, len(pieces)), object)
    for number, piece in enumerate(pieces):
        cells[0, number] = piece
    return cells
