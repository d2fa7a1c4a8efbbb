"""Pure: what a storage process shows of itself to Prometheus (core/metrics.py)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..metrics import Metric, Sample
from .target import Target
from .upkeep import Upkeep

Figure = Callable[[Target, Upkeep], float]

_TARGET_FIGURES: tuple[tuple[str, str, str, Figure], ...] = (
    ("craqen_target_capacity_bytes", "gauge", "Size of the target's disk.",
     lambda target, _: target.store.space().capacity_bytes),
    ("craqen_target_free_bytes", "gauge", "Free for new chunks.",
     lambda target, _: target.store.space().free_bytes),
    ("craqen_target_used_bytes", "gauge", "Capacity of the blocks in use.",
     lambda target, _: target.store.space().used_bytes),
    ("craqen_target_chunks", "gauge", "Chunks in the index.",
     lambda target, _: target.store.space().chunks),
    ("craqen_target_serving", "gauge", "Whether the target serves (0, 1).",
     lambda target, _: target.replica.view.is_serving and target.offline is None),
    ("craqen_damaged_chunks", "gauge", "Chunks known to be damaged now.",
     lambda target, upkeep: upkeep.damaged_chunks(target.target_id)),
    ("craqen_damage_found_total", "counter", "Damaged chunks that were found.",
     lambda target, upkeep: upkeep.repairer.counts(target.target_id).found),
    ("craqen_repaired_chunks_total", "counter", "Chunks that were repaired from another replica.",
     lambda target, upkeep: upkeep.repairer.counts(target.target_id).repaired),
    ("craqen_repair_failures_total", "counter", "Attempts at a repair that came to nothing.",
     lambda target, upkeep: upkeep.repairer.counts(target.target_id).failures),
    ("craqen_replica_mismatches_total", "counter",
     "Acknowledgements of the successor with another content than was sent.",
     lambda target, _: target.replica.mismatches),
    ("craqen_scrubbed_chunks_total", "counter", "Chunks that the scrubber found whole.",
     lambda target, upkeep: upkeep.scrubber.counts(target.target_id).chunks),
    ("craqen_scrubbed_bytes_total", "counter", "Bytes that the scrubber found whole.",
     lambda target, upkeep: upkeep.scrubber.counts(target.target_id).bytes),
    ("craqen_scrub_damaged_total", "counter", "Chunks that the scrubber found damaged.",
     lambda target, upkeep: upkeep.scrubber.counts(target.target_id).damaged),
    ("craqen_scrub_passes_total", "counter", "Whole passes of the scrubber over the target.",
     lambda target, upkeep: upkeep.scrubber.counts(target.target_id).passes),
    ("craqen_scrub_last_pass_timestamp_seconds", "gauge", "When the last one ended; 0: never.",
     lambda target, upkeep: upkeep.scrubbed_wall_seconds(target.target_id)),
)  # fmt: skip

_RESYNC_FIGURES = (
    ("craqen_resync_chunks_compared", "chunks_compared", "Chunks compared so far."),
    ("craqen_resync_chunks_sent", "chunks_sent", "Chunks sent so far."),
    ("craqen_resync_bytes_sent", "bytes_sent", "Bytes sent so far."),
    ("craqen_resync_bytes_to_send", "bytes_to_send", "Bytes to send that are known so far."),
    ("craqen_resync_bytes_per_second", "bytes_per_second", "Throughput since it began."),
    ("craqen_resync_seconds_left", "seconds_left", "An estimate; negative: not known yet."),
)


def measures(
    node_id: int, targets: Collection[Target], upkeep: Upkeep, refused: int
) -> list[Metric]:
    """All of a node's. *refused*: frames, greetings and calls that were refused."""
    found = [
        _of_node(node_id, "craqen_refused_total", "Frames, greetings and calls refused.", refused),
        _of_node(
            node_id,
            "craqen_resyncs_completed_total",
            "Successors that were filled completely.",
            upkeep.resyncs.completed,
        ),
        _of_node(
            node_id,
            "craqen_resync_sent_bytes_total",
            "Bytes that ended resyncs have sent.",
            upkeep.resyncs.bytes_sent,
        ),
    ]
    for name, kind, told, figure in _TARGET_FIGURES:
        samples: list[Sample] = [
            (_labels(node_id, target), float(figure(target, upkeep))) for target in targets
        ]
        found.append(Metric(name, kind, told, samples))
    reports = [(target, upkeep.resync(target.target_id)) for target in targets]
    for name, field, told in _RESYNC_FIGURES:
        running: list[Sample] = [
            ({**_labels(node_id, target), "successor": report.target_id}, getattr(report, field))
            for target, report in reports
            if report is not None
        ]
        found.append(Metric(name, "gauge", f"Of the resync under way: {told}", running))
    return found


def _of_node(node_id: int, name: str, told: str, value: float) -> Metric:
    return Metric(name, "counter", told, [({"node": node_id}, value)])


def _labels(node_id: int, target: Target) -> dict[str, str | int]:
    return {
        "node": node_id,
        "target": target.target_id,
        "chain": target.replica.chain.chain_id,
    }
