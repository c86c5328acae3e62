"""Heads: `[B,D] -> [B,K]`."""
