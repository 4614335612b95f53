"""A paper's claims, tested: what is trained for them, what is read from the runs, and the page that says so."""
