"""Words of the quickest commands."""

TINY = ["waves", "--data.count", "60", "--data.window", "8", "--model.hidden", "2", "--epochs", "1", "--batch", "16"]
PIECE = ["--no-score", "--bpm", "400", "--count", "1", "--bars", "1"]
