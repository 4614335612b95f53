"""Four-voice chorales: pieces, symbols, corpora, notation, sound and networks."""
