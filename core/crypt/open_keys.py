"""The key keeper that the configuration asks for."""

from __future__ import annotations

from ..clock import Clock
from ..errors import ConfigError
from ..options import Config
from .aws_kms import AwsKms
from .external_keys import ExternalKeys
from .key_ring import FileKeyRing
from .key_service import KeyService
from .port import KeyKeeper
from .routed_keys import RoutedKeys
from .service_calls import SecretFile, ServiceCalls
from .vault_transit import VaultTransit

AWS, VAULT = "aws", "vault"


def open_keys(config: Config, clock: Clock) -> KeyKeeper:
    """The store's own keys, and those of its key service if there is one. Calls nobody yet. Raises
    ConfigError."""
    own = FileKeyRing(config.keys_file)
    options = config.encryption
    if not options.kms:
        return own
    keys = ExternalKeys(open_service(config, clock), clock, cache_seconds=options.kms_cache_seconds)
    return RoutedKeys(own, keys, options.kms_default_key)


def open_service(config: Config, clock: Clock) -> KeyService:
    """The key service. Raises ConfigError."""
    options = config.encryption
    if not options.kms:
        raise ConfigError("encryption.kms: no key service is configured")
    region = options.kms_region or config.gateway.region
    endpoint = options.kms_endpoint
    if options.kms == AWS and not endpoint:
        endpoint = f"https://kms.{region}.amazonaws.com"
    calls = ServiceCalls(
        endpoint, timeout_seconds=options.kms_timeout_seconds, ca_file=options.kms_ca_file
    )
    if options.kms == AWS:
        credentials = SecretFile("kms_credentials_file", options.kms_credentials_file)
        return AwsKms(calls, credentials, clock, region=region)
    token = SecretFile("kms_token_file", options.kms_token_file)
    return VaultTransit(calls, token, mount=options.kms_mount, namespace=options.kms_namespace)
