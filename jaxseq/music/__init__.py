"""Four-voice chorales: what a piece is, how it becomes symbols, how it is written, heard and judged. No jax."""
