"""Reading and writing of Standard MIDI Files."""
