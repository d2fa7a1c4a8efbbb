"""MACHINE: one version of a chain, as one of its targets sees it. Worked out once per
version, since every read asks."""

from __future__ import annotations

from ..cluster.records import ChainRecord, PublicState

_TAKES_PART = (PublicState.SERVING, PublicState.SYNCING)


class ChainView:
    """Where *target_id* stands in *chain*. Never changes."""

    __slots__ = (
        "chain",
        "is_head",
        "is_serving",
        "is_serving_tail",
        "is_syncing",
        "serving",
        "successor",
        "successors",
        "tail_id",
        "takes_part",
        "target_id",
    )

    def __init__(self, target_id: int, chain: ChainRecord) -> None:
        state: PublicState | None = None
        following: list[tuple[int, bool]] = []
        serving: list[int] = []
        for target in chain.targets:
            if target.target_id == target_id:
                state = target.state
            elif state is not None and target.state in _TAKES_PART:
                following.append((target.target_id, target.state == PublicState.SYNCING))
            if target.state == PublicState.SERVING:
                serving.append(target.target_id)
        self.chain = chain
        self.target_id = target_id
        self.takes_part = state in _TAKES_PART
        """Whether updates are carried out here at all."""
        self.is_serving = state == PublicState.SERVING
        """Whether reads are answered here."""
        self.serving = tuple(serving)
        """The serving targets, head first."""
        self.is_syncing = state == PublicState.SYNCING
        """Whether this target is being filled by its predecessor."""
        self.is_head = self.is_serving and serving[0] == target_id
        """Whether clients' updates are this target's to order."""
        self.is_serving_tail = self.is_serving and serving[-1] == target_id
        """Whether what is committed here is what the chain's readers see."""
        self.tail_id = serving[-1] if serving else None
        """The target that says which version is committed."""
        self.successors = len(following) if self.takes_part else 0
        """How many targets an update still passes after this one."""
        self.successor = following[0] if self.successors else None
        """(target id, whether it is syncing) of the next one; None: an update ends here."""
