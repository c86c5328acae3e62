"""Sections of the report: `run -> Section or None`, one file each, in the order of their
`place`.
"""
