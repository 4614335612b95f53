"""Sheet music: spelling, note values, beams, MusicXML and engraving."""
