"""Everything that one adds by one file: a room a folder, a method a file."""
