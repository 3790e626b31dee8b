"""The report that people open: one self-contained page of a recorded run. `page.write` is the way in."""
