"""Bucket settings: each aspect's document read, checked and written. Pure."""
