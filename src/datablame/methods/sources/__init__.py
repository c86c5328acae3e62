"""Where images come from: `(where, ...) -> Dataset`."""
