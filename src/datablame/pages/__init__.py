"""Pages, pictures and cards: they look, and never change."""
