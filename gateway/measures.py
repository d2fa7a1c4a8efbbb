"""What a gateway worker counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.metrics import Metric
from .access_logs.log import AccessLog
from .audit.log import AuditFile


def measures(access_log: AccessLog, audit: AuditFile | None) -> Sequence[Metric]:
    """Since the worker began."""
    counts = [
        (
            "access_log_delivered",
            "Lines of access logs that this worker delivered.",
            access_log.delivered,
        ),
        (
            "access_log_lost",
            "Lines of access logs that could not be kept or delivered.",
            access_log.lost,
        ),
    ]
    if audit is not None:
        counts.append(("audit_lost", "Audit records that could not be written.", audit.lost))
    return [
        Metric(f"craqen_gateway_{name}_total", "counter", text, [({}, value)])
        for name, text, value in counts
    ]
