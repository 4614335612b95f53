"""Steps of a run on disk; `python -m jaxseq.checkpoint show | verify | diff` looks into them."""
