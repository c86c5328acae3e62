"""What every floor stands on: finding methods, ranks and devices, seconds, files, numbers drawn by
hashing.
"""
