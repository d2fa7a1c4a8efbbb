"""Craqen: one store, two doors: the same bytes are S3 objects and files in one namespace."""
