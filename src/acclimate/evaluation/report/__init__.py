"""The report: one self-contained page for people, and the same in a dozen lines for a terminal.

facts.py reads the artifacts, charts.py draws, sections.py and pipeline.py write the parts, page.py puts them together.
"""
