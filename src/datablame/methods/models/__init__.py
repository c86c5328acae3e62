"""Encoders: `[B,C,H,W] -> [B,D]`, with the attribute `dim`."""
