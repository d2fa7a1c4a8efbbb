"""What only the simulator knows: every update that any replica ever committed, every table that was
ever written. It looks on and objects."""

from __future__ import annotations

from collections.abc import Sequence

from craqen.core.chunks.changes import Step
from craqen.core.cluster.records import ChainRecord, RoutingTable
from craqen.core.ids import UpdateToken

from .world import Violation


class Ghost:
    """Raises Violation as soon as something impossible was done."""

    def __init__(self) -> None:
        self._versions: dict[UpdateToken, int] = {}
        self._chains: dict[int, ChainRecord] = {}
        self._table_version = 0
        self._primaries: dict[int, str] = {}

    def stored(self, disk: str, steps: Sequence[Step]) -> None:
        """Changes are durable: each update has one version, wherever it is committed."""
        for step in steps:
            outcome = step.outcome
            if outcome is None or step.new is None or step.new.committed is None:
                continue
            version = self._versions.setdefault(outcome.token, outcome.version)
            if version != outcome.version:
                raise Violation(
                    f"{disk}: {outcome.token} was applied as version {version}, and "
                    f"now as version {outcome.version}"
                )

    def table_written(self, manager: str, epoch: int, table: RoutingTable) -> None:
        """A manager wrote the table: versions rise, and one manager writes in an epoch."""
        primary = self._primaries.setdefault(epoch, manager)
        if primary != manager:
            raise Violation(f"epoch {epoch}: both {primary} and {manager} wrote the table")
        if epoch < max(self._primaries):
            raise Violation(f"{manager} wrote the table in epoch {epoch}, which was over")
        if table.version <= self._table_version:
            raise Violation(f"table version {table.version} was written after a later one")
        self._table_version = table.version
        for chain in table.chains:
            before = self._chains.get(chain.chain_id)
            if before is not None and before != chain and chain.version <= before.version:
                raise Violation(f"chain {chain.chain_id}: {before} was followed by {chain}")
            self._chains[chain.chain_id] = chain
