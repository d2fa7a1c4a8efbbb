"""Is there one order of all operations on a chunk that explains every answer?

Method: Wing and Gong, "Testing and Verifying Concurrent Objects", JPDC 1993, with Lowe's memory of
states already tried ("Testing for linearizability", 2017). A chunk at a time: linearizability is
local (Herlihy and Wing 1990). An operation without an answer may take its place anywhere after its
beginning, or nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .history import Action, Content, after

STEPS_MAX = 500_000


class TooHardError(Exception):
    """The search was given up: neither yes nor no."""


def explained(actions: Sequence[Action], start: Content = None) -> list[Action] | None:
    """An order of *actions* on one chunk that explains what was seen, None if there is none.

    Raises TooHardError.
    """
    ordered = sorted(actions, key=lambda action: (action.began, action.number))
    count = len(ordered)
    answered = 0
    for position, action in enumerate(ordered):
        if action.ended < math.inf:
            answered |= 1 << position
    tried: set[tuple[int, Content]] = set()
    # Depth first; each frame: (what is done, state, candidates left, how it was reached).
    path: list[Action] = []
    stack: list[tuple[int, Content, list[int]]] = [(0, start, _candidates(ordered, 0, start))]
    steps = 0
    while stack:
        done, content, candidates = stack[-1]
        if done & answered == answered:
            return path
        if not candidates:
            stack.pop()
            if path:
                path.pop()
            continue
        position = candidates.pop()
        action = ordered[position]
        if action.kind is None and action.seen != content:
            continue
        steps += 1
        if steps > STEPS_MAX:
            raise TooHardError(f"{count} operations, {steps} steps")
        following = after(content, action)
        key = (done | 1 << position, following)
        if key in tried:
            continue
        tried.add(key)
        path.append(action)
        stack.append((key[0], following, _candidates(ordered, key[0], following)))
    return None


def _candidates(ordered: Sequence[Action], done: int, content: Content) -> list[int]:
    """Operations that may come next: begun before any other one that is left had its answer.

    In the order of trying, last first: the earliest answer first, the unanswered at the end. A read
    that fits now may as well come now: then nothing else need be tried.
    """
    limit = math.inf
    found: list[tuple[float, int]] = []
    first = (~done & (done + 1)).bit_length() - 1
    for position in range(first, len(ordered)):
        action = ordered[position]
        if action.began > limit:
            break
        if not done >> position & 1:
            found.append((action.ended, position))
            limit = min(limit, action.ended)
    found = [one for one in found if ordered[one[1]].began <= limit]
    for _, position in found:
        if ordered[position].kind is None and ordered[position].seen == content:
            return [position]
    found.sort(reverse=True)
    return [position for _, position in found]


def listing(actions: Sequence[Action]) -> str:
    """The operations, for a reader."""
    return "\n".join(
        str(action) for action in sorted(actions, key=lambda one: (one.began, one.number))
    )
