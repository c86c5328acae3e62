"""What changes weights, or draws evidence from them."""
