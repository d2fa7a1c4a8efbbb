"""Encryption of content at rest: pages, envelopes, and where keys come from."""
