"""Draw chorales from trained networks.

`ancestral` serves the networks that read forward (`NoteNet`, `ChordNet`): note by note on carried states, in one compiled
scan. `gibbs` serves the network that also reads what follows (`FillNet`): sweep by sweep, in a compiled loop. Numbers of
pieces that are close share a compiled program.

`options` says how notes are drawn, `choose` draws them, and `rules` excludes some.
"""

from jaxseq.music.sampling.drawn import UNGUIDED, Drawn, Guide
from jaxseq.music.sampling.filling import gibbs
from jaxseq.music.sampling.forward import ancestral
from jaxseq.music.sampling.options import FREE, UNCHANGED, SamplingOptions

__all__ = ["FREE", "UNCHANGED", "UNGUIDED", "Drawn", "Guide", "SamplingOptions", "ancestral", "gibbs"]
