"""The report: one self-contained page for people, and the same in a dozen lines for a terminal."""
