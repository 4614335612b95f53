"""The report: the runs it is made of, the evidence in them, and the page."""
