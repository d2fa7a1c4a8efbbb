"""Pure: what the primary manager shows of the cluster to Prometheus (core/metrics.py)."""

from __future__ import annotations

from collections import Counter

from ..cluster.records import PublicState
from ..metrics import Metric, Sample
from .overview import Overview, serving, words


def measures(view: Overview) -> list[Metric]:
    """The cluster's."""
    chains = view.table.chains
    states = Counter(member.state for chain in chains for member in chain.targets)
    conditions = Counter(view.condition(node) for node in view.table.nodes)
    standing: list[Sample] = [
        ({"standing": "whole"}, sum(serving(one) >= view.replicas for one in chains)),
        ({"standing": "reduced"}, sum(0 < serving(one) < view.replicas for one in chains)),
        ({"standing": "without server"}, sum(not serving(one) for one in chains)),
    ]
    return [
        _gauge("craqen_routing_version", "Version of the routing table.", view.table.version),
        Metric(
            "craqen_nodes",
            "gauge",
            "Storage nodes by their condition.",
            [({"condition": name}, count) for name, count in sorted(conditions.items())],
        ),
        Metric(
            "craqen_targets",
            "gauge",
            "Targets of chains by their state.",
            [({"state": words(state)}, states[state]) for state in PublicState],
        ),
        Metric("craqen_chains", "gauge", "Chains by how many of their targets serve.", standing),
    ]


def _gauge(name: str, told: str, value: float) -> Metric:
    return Metric(name, "gauge", told, [({}, value)])
