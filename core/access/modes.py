"""Who decides about requests on a bucket's objects: the words for it. Pure."""

from __future__ import annotations

ACCESS_MODE_ASPECT = "access-mode"
"""The setting of a bucket that holds one of the modes, as ASCII."""

POLICY = "policy"
"""Policies and ACLs; file permissions bind nobody at the S3 door."""
POSIX = "posix"
"""File permissions, as in the mount; policies can only deny."""
BOTH = "both"
"""Both must allow."""
MODES = (POLICY, POSIX, BOTH)
