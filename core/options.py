"""Every option of craqen.yaml: its type, default, bounds and the sentence that documents it.

This is the only list of options: the loader validates against it, ``craqen config show`` prints it,
and a test holds conf/craqen.yaml against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .challenge import SECRET_BYTES_MIN, ClusterSecret
from .errors import ConfigError


def option(
    default: Any,
    help_text: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that is an option, with what the loader needs to check and explain it."""
    metadata = {"help": help_text, "minimum": minimum, "maximum": maximum, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class KvOptions:
    """kv: where the metadata lives."""

    url: str = option(
        "",
        "embedded:/folder, or fdb:/cluster/file?prefix=name. Empty: embedded in <data_folder>/kv.",
    )
    durability: str = option(
        "flush",
        "flush: acknowledged means on stable storage. interval: acknowledged at once, flushed "
        "every flush_interval_milliseconds; a power cut may cost the store. For scratch data only.",
        choices=("flush", "interval"),
    )
    flush_interval_milliseconds: int = option(
        100, "With durability interval: time between flushes.", minimum=1, maximum=60_000
    )


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """storage: where the bulk data lives."""

    disks: list[str] = option(
        [],
        "One folder per disk; each gets a storage process. Empty: <data_folder>/disk1. "
        "Relative folders are below data_folder.",
    )
    replicas: int = option(1, "Targets per chain; needs as many disks.", minimum=1, maximum=16)
    lease_seconds: float = option(
        30.0,
        "How long a reader may use a block's location. A freed block rests twice as long.",
        minimum=1.0,
        maximum=3600.0,
    )
    listen: str = option(
        "",
        "tcp://host:port for clients on other hosts. Empty: this host only, by unix sockets.",
    )
    resync_mebibytes_per_second: float = option(
        0.0,
        "How much a storage process sends to replicas that come back, at most. 0: no limit.",
        minimum=0.0,
        maximum=1_000_000.0,
    )
    scrub_mebibytes_per_second: float = option(
        20.0,
        "How much a storage process reads in the background to find damage. 0: nothing.",
        minimum=0.0,
        maximum=1_000_000.0,
    )


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """cluster: how the processes find each other, and how soon a silent one is given up."""

    lease_seconds: float = option(
        5.0,
        "A storage node that its manager has not heard for this long is dead: its chains go on "
        "without it. It stops serving by itself after half of it.",
        minimum=0.5,
        maximum=300.0,
    )
    managers: list[str] = option(
        [],
        "Addresses of all managers (tcp://host:port) of a store on several hosts. Empty: one "
        "manager on this host, by a unix socket.",
    )
    manager_number: int = option(
        1, "Which of the managers runs on this host, counted from 1.", minimum=1, maximum=16
    )
    node_id: int = option(
        0,
        "Number of this host's storage node, which has all of storage.disks. 0: each disk is a "
        "node of its own, as `craqen up` starts them.",
        minimum=0,
        maximum=2**31,
    )
    secret_file: str = option(
        "",
        "File with the secret that storage nodes, managers and their clients prove to each other "
        "over the network; the same on all hosts, mode 0600. Empty: <data_folder>/cluster-secret.",
    )
    domain: str = option(
        "",
        "Failure domain of this host's node (a rack, a room): replicas are spread over domains. "
        "Empty: the node is one by itself.",
    )


@dataclass(frozen=True, slots=True)
class MetaOptions:
    """meta: the namespace."""

    removal_grace_seconds: float = option(
        60.0,
        "How long bytes stay after the last name is gone, for readers that are under way.",
        minimum=0.0,
        maximum=86_400.0,
    )
    client_lease_seconds: float = option(
        30.0,
        "A process that does not renew for this long is dead: its unfinished writes go.",
        minimum=2.0,
        maximum=3600.0,
    )
    feed_retention_seconds: float = option(
        600.0, "How long changes stay in the change feed.", minimum=10.0, maximum=86_400.0
    )


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """gateway: the S3 door."""

    host: str = option("127.0.0.1", "Address to listen on.")
    port: int = option(9000, "Port to listen on; shared by all workers.", minimum=1, maximum=65_535)
    workers: int = option(0, "Worker processes. 0: one per core.", minimum=0, maximum=256)
    region: str = option("us-east-1", "Region name that requests are signed for.")
    base_domains: list[str] = option(
        [], "Domains for virtual-host style requests (bucket.domain). Empty: path style only."
    )
    tls: bool = option(False, "Serve https instead of http.")
    tls_certificate: str = option(
        "",
        "PEM file with the certificate chain. Empty: a self-signed one in <data_folder>/tls.",
    )
    tls_key: str = option("", "PEM file with the private key. Empty: beside the certificate.")
    tls_client_ca: str = option(
        "",
        "PEM file with the authorities of clients' certificates, which are verified (TLS 1.3 only) "
        "beside signatures. Empty: clients are asked for none.",
    )
    tls_client_required: bool = option(
        True, "Whether, with tls_client_ca, clients without a certificate are turned away."
    )
    signature_version_2: bool = option(
        False, "Accept Signature Version 2 (HMAC-SHA1) too: old programs have nothing better."
    )
    oidc_issuers: list[str] = option(
        [],
        "Issuers of identity tokens that roles may trust: ISSUER=URL or ISSUER=/file names the key "
        "set; ISSUER alone is asked for its configuration.",
    )
    website_domains: list[str] = option(
        [], "Domains for buckets that are web sites (bucket.domain). Empty: none are."
    )
    object_ownership: str = option(
        "BucketOwnerEnforced",
        "Object ownership of buckets that say nothing of it. With the others ACLs count.",
        choices=("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"),
    )
    access_mode: str = option(
        "both",
        "Who decides about objects of buckets for which craqen admin bucket mode says nothing: "
        "policies, file permissions (posix), or both of them.",
        choices=("policy", "posix", "both"),
    )
    audit_log: str = option(
        "",
        "File that gets a line of JSON for each request to S3, IAM and STS, in the shape of "
        "CloudTrail's records. Empty: there is no audit log.",
    )
    audit_log_mebibytes: int = option(
        100, "Size at which a new audit log is begun.", minimum=1, maximum=1_048_576
    )
    audit_log_files: int = option(
        10, "Full audit logs that are kept: .1 (the newest), .2, …", minimum=1, maximum=10_000
    )
    access_log_interval_seconds: float = option(
        300.0,
        "How often lines of buckets' access logs (PutBucketLogging) are delivered.",
        minimum=0.1,
        maximum=86_400.0,
    )
    uid: int = option(0, "Owner of files made by S3 requests.", minimum=0, maximum=2**32 - 2)
    gid: int = option(0, "Group of files made by S3 requests.", minimum=0, maximum=2**32 - 2)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """mount: the file door of `craqen up`."""

    point: str = option("", "Where `craqen up` mounts the store. Empty: it does not.")
    path: str = option("", "bucket or bucket/folder to show as the root. Empty: all buckets.")
    read_only: bool = option(False, "Refuse every change through this mount.")
    allow_other: bool = option(True, "Let other users in (needs root or user_allow_other).")
    cache_seconds: float = option(
        60.0,
        "How long the kernel may keep names and attributes; changes elsewhere invalidate them.",
        minimum=0.0,
        maximum=86_400.0,
    )
    dirty_mebibytes: int = option(
        64, "Memory for written bytes that are not flushed yet.", minimum=4, maximum=65_536
    )


@dataclass(frozen=True, slots=True)
class EncryptionOptions:
    """encryption: the keys that wrap the data keys of encrypted objects."""

    keys_file: str = option(
        "",
        "File of mode 0600 with the store's keys; craqen admin encryption-key changes it. Every "
        "host that serves encrypted objects needs it, and nothing else can read them: keep a copy. "
        "Empty: <data_folder>/keys.yaml.",
    )
    kms: str = option(
        "",
        "Key service for aws:kms: aws (the API of AWS KMS), vault (transit engine of HashiCorp "
        "Vault or OpenBao). Empty: none, all keys are in keys_file. SSE-S3 always is.",
        choices=("", "aws", "vault"),
    )
    kms_endpoint: str = option(
        "", "URL of the key service. Empty, for aws: that of AWS in kms_region."
    )
    kms_ca_file: str = option(
        "", "PEM file with who signed the key service's certificate. Empty: whom the host trusts."
    )
    kms_default_key: str = option(
        "", "Its key for aws:kms requests that name none. Empty: the store's own key, craqen-s3."
    )
    kms_region: str = option("", "Region of the key service. Empty: gateway.region.")
    kms_credentials_file: str = option(
        "",
        "For aws: file of mode 0600 with [default], aws_access_key_id and aws_secret_access_key, "
        "read again when it changes.",
    )
    kms_token_file: str = option(
        "", "For vault: file of mode 0600 with a token, read again when it changes."
    )
    kms_mount: str = option("transit", "For vault: where the transit engine is mounted.")
    kms_namespace: str = option("", "For vault: its namespace.")
    kms_timeout_seconds: float = option(
        5.0, "How long one call may take.", minimum=0.1, maximum=60.0
    )
    kms_cache_seconds: float = option(
        300.0,
        "How long a key of the service is used without asking: to wrap the data keys of many "
        "objects, and to read while the service is away or after the key was disabled. 0: each "
        "object is a call.",
        minimum=0.0,
        maximum=86_400.0,
    )


@dataclass(frozen=True, slots=True)
class LifecycleOptions:
    """lifecycle: when what the rules of buckets end is removed."""

    interval_seconds: float = option(
        21_600.0,
        "How often all that a bucket's rules may end is looked at; soon, when the rules change.",
        minimum=0.1,
        maximum=604_800.0,
    )
    day_seconds: float = option(
        86_400.0,
        "How long a day of the rules is. Less than 86400 is a test clock: such days end where they "
        "end, not at midnight UTC, and objects are gone that much sooner.",
        minimum=0.1,
        maximum=86_400.0,
    )


@dataclass(frozen=True, slots=True)
class EventOptions:
    """events: who is told of what happens in buckets."""

    destinations: list[str] = option(
        [],
        "Who can be told: NAME=URL, with https:// or http:// for a POST of each event, and "
        "nats://host:port/subject (or tls://) for a stream of NATS JetStream. The ARN in a "
        "bucket's notification configuration ends in the name; eventbridge is the name that "
        "EventBridgeConfiguration means.",
    )
    secrets_file: str = option(
        "",
        "YAML file of mode 0600: below a destination's name bearer or hmac_key (webhooks), user "
        "and password, or token (NATS). Read again when it changes. Empty: none is shown any.",
    )
    ca_file: str = option(
        "",
        "PEM file with who signed the destinations' certificates. Empty: whom the host trusts.",
    )
    timeout_seconds: float = option(
        10.0, "How long a destination may take for one event.", minimum=0.1, maximum=300.0
    )


@dataclass(frozen=True, slots=True)
class QuotaOptions:
    """quotas: what buckets, folders and users may hold (craqen admin quota)."""

    recount_hours: float = option(
        168.0,
        "How often the keeper adds all files up and mends counters that say something else. 0: "
        "never; craqen admin usage --recount does it by hand.",
        minimum=0.0,
        maximum=8_760.0,
    )


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """metrics: what storage nodes and managers count, for Prometheus."""

    listen: str = option(
        "",
        "host:port where a manager answers GET /metrics; storage node N listens on that port + N, "
        "the keeper on the port below, gateway worker N on that port - 100 - N. Whoever can reach "
        "it can read it. Empty: nowhere.",
    )


@dataclass(frozen=True, slots=True)
class LogOptions:
    """log: what the processes say on standard error."""

    level: str = option(
        "info",
        "Least important level that is printed.",
        choices=("debug", "info", "warning", "error"),
    )
    format: str = option("text", "text for people, json for collectors.", choices=("text", "json"))


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration of one process. Folders are absolute."""

    data_folder: str = option("craqen-data", "Folder that holds everything the store keeps.")
    kv: KvOptions = field(default_factory=KvOptions)
    storage: StorageOptions = field(default_factory=StorageOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    meta: MetaOptions = field(default_factory=MetaOptions)
    gateway: GatewayOptions = field(default_factory=GatewayOptions)
    mount: MountOptions = field(default_factory=MountOptions)
    encryption: EncryptionOptions = field(default_factory=EncryptionOptions)
    lifecycle: LifecycleOptions = field(default_factory=LifecycleOptions)
    quotas: QuotaOptions = field(default_factory=QuotaOptions)
    events: EventOptions = field(default_factory=EventOptions)
    log: LogOptions = field(default_factory=LogOptions)
    metrics: MetricsOptions = field(default_factory=MetricsOptions)

    @property
    def kv_url(self) -> str:
        """The URL of the metadata store, with its default filled in."""
        return self.kv.url or f"embedded:{self.data_folder}/kv"

    @property
    def run_folder(self) -> str:
        """Where sockets live."""
        return f"{self.data_folder}/run"

    def cluster_secret(self) -> ClusterSecret | None:
        """The cluster's secret; None if there is no such file. Raises ConfigError if it is not fit
        to be one."""
        path = Path(self.cluster.secret_file or f"{self.data_folder}/cluster-secret")
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: others may read it; chmod 600 it")
            secret = path.read_bytes().strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        if len(secret) < SECRET_BYTES_MIN:
            raise ConfigError(f"{path}: expected at least {SECRET_BYTES_MIN} bytes")
        return ClusterSecret(secret)

    @property
    def manager_addresses(self) -> tuple[str, ...]:
        """Where the managers listen, with the default filled in."""
        return tuple(self.cluster.managers) or (f"unix://{self.run_folder}/manager-1.sock",)

    @property
    def keys_file(self) -> str:
        """The file of encryption keys, with its default filled in."""
        return self.encryption.keys_file or f"{self.data_folder}/keys.yaml"

    @property
    def credentials_file(self) -> str:
        """YAML file of mode 0600 with the access keys."""
        return f"{self.data_folder}/credentials.yaml"


SECTIONS: dict[str, Callable[[], Any]] = {
    "kv": KvOptions,
    "storage": StorageOptions,
    "cluster": ClusterOptions,
    "meta": MetaOptions,
    "gateway": GatewayOptions,
    "mount": MountOptions,
    "encryption": EncryptionOptions,
    "lifecycle": LifecycleOptions,
    "quotas": QuotaOptions,
    "events": EventOptions,
    "log": LogOptions,
    "metrics": MetricsOptions,
}


def documented_yaml(config: Config | None = None) -> str:
    """All options with their documentation and the values of *config* (default: the defaults)."""
    from .config import yaml_value

    config = config or Config()
    lines = [
        "# Craqen's configuration: every option, what it does, and its default.",
        "# Environment variables override: CRAQEN_DATA_FOLDER, CRAQEN_<SECTION>_<OPTION>.",
        "",
    ]
    for item in fields(config):
        if item.name not in SECTIONS:
            lines += _comment(item.metadata["help"], "")
            lines += [f"{item.name}: {yaml_value(getattr(config, item.name))}", ""]
    for name in SECTIONS:
        section = getattr(config, name)
        lines += [f"{name}:"]
        for item in fields(section):
            lines += _comment(_explain(item.metadata), "  ")
            lines += [f"  {item.name}: {yaml_value(getattr(section, item.name))}"]
        lines += [""]
    return "\n".join(lines)


def _explain(metadata: Any) -> str:
    bounds = ""
    if metadata["choices"]:
        bounds = f" One of: {', '.join(metadata['choices'])}."
    elif metadata["minimum"] is not None:
        bounds = f" From {metadata['minimum']:g} to {metadata['maximum']:g}."
    return str(metadata["help"]) + bounds


def _comment(text: str, indent: str) -> list[str]:
    import textwrap

    prefix = f"{indent}# "
    return textwrap.wrap(text, width=96, initial_indent=prefix, subsequent_indent=prefix)
