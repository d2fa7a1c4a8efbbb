"""What ``craqen up`` prepares: the data folder and its lock, credentials at first start, the words
it prints."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shlex
import shutil
import socket
import string
import sys
import time
from pathlib import Path

import yaml

from ..config import write_config
from ..crypt.key_ring import STORE_KEY_ID, FileKeyRing
from ..durable_file import write_durably
from ..errors import ConfigError, OperatorError
from ..options import Config

CLUSTER_SECRET_BYTES = 32
ACCESS_KEY_CHARACTERS = 20
SECRET_KEY_CHARACTERS = 40
ROOT_NAME = "root"


def lock_data_folder(config: Config) -> int:
    """Make the data folder and lock it for this process; return the lock's descriptor (keep it
    open).

    Raises OperatorError if another store runs on it or it cannot be made.
    """
    folder = Path(config.data_folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "run").mkdir(exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError(
            f"data folder {folder}: cannot be used: {error.strerror}; set data_folder to one that "
            f"can be written"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise OperatorError(
            f"data folder {folder}: another craqen up (process {holder or 'unknown'}) runs on it; "
            f"stop that one, or give this one another data_folder"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def ensure_credentials(config: Config) -> tuple[str, str] | None:
    """Create the root credentials if there are none; return them only if they are new.

    Raises OperatorError if they cannot be written.
    """
    path = Path(config.credentials_file)
    if path.exists():
        return None
    alphabet = string.ascii_uppercase + string.digits
    access_key = "CQ" + "".join(secrets.choice(alphabet) for _ in range(ACCESS_KEY_CHARACTERS - 2))
    letters = string.ascii_letters + string.digits
    secret_key = "".join(secrets.choice(letters) for _ in range(SECRET_KEY_CHARACTERS))
    record = {
        "credentials": [
            {"access_key": access_key, "secret_key": secret_key, "name": ROOT_NAME},
        ]
    }
    try:
        write_durably(path, yaml.safe_dump(record, sort_keys=False))
    except OSError as error:
        raise OperatorError(f"{path}: cannot be written: {error.strerror}") from error
    return access_key, secret_key


def ensure_cluster_secret(config: Config) -> None:
    """Create the secret by which the cluster's processes know each other over the network.

    Raises OperatorError if it cannot be written.
    """
    path = Path(config.cluster.secret_file or f"{config.data_folder}/cluster-secret")
    if path.exists():
        return
    try:
        write_durably(path, secrets.token_hex(CLUSTER_SECRET_BYTES) + "\n")
    except OSError as error:
        raise OperatorError(f"{path}: cannot be written: {error.strerror}") from error


def ensure_encryption_key(config: Config) -> None:
    """Create the store's own encryption key if there is no file of keys. Raises OperatorError."""
    if not Path(config.keys_file).exists():
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        FileKeyRing(config.keys_file).create(STORE_KEY_ID, created)


def write_effective_config(config: Config) -> str:
    """Write what is in force where the processes read it; return the file's path.

    Raises OperatorError.
    """
    path = Path(config.run_folder) / "effective.yaml"
    try:
        write_config(config, path)
    except OSError as error:
        raise OperatorError(f"{path}: cannot be written: {error.strerror}") from error
    return str(path)


def make_mount_point(config: Config) -> None:
    """Make the folder that ``mount.point`` names, if it names one. Raises OperatorError."""
    point = config.mount.point
    if not point:
        return
    try:
        Path(point).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "choose another mount.point"
        if error.errno == errno.ENOTCONN:
            remedy = f"a mount whose process was killed is left there; run: fusermount3 -u {point}"
        raise OperatorError(f"mount.point: {point}: {error.strerror}; {remedy}") from error


def check_port(config: Config) -> None:
    """Raise ConfigError if the gateway's port is taken by somebody else."""
    family = socket.AF_INET6 if ":" in config.gateway.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.gateway.host, config.gateway.port))
        except OSError as error:
            raise ConfigError(
                f"gateway.port: cannot listen on {config.gateway.host}:{config.gateway.port}: "
                f"{error.strerror}; set gateway.port (or CRAQEN_GATEWAY_PORT) to a free one"
            ) from error


def greeting(config: Config, endpoint: str, new_keys: tuple[str, str] | None) -> str:
    """The words for a store that is up: where it is and how to use it. The secret is shown once."""
    lines = ["", f"Craqen is up: {endpoint}   (data in {config.data_folder})", ""]
    certificate = ""
    if config.gateway.tls:
        certificate = config.gateway.tls_certificate or f"{config.data_folder}/tls/certificate.pem"
    if new_keys:
        access_key, secret_key = new_keys
        lines += [
            f"Credentials, made now and not shown again (they stay in {config.credentials_file}):",
            "",
            f"  export AWS_ACCESS_KEY_ID={access_key}",
            f"  export AWS_SECRET_ACCESS_KEY={secret_key}",
        ]
    else:
        lines += [f"Credentials: {config.credentials_file}", ""]
    lines += [
        f"  export AWS_ENDPOINT_URL={endpoint} AWS_DEFAULT_REGION={config.gateway.region}",
        *([f"  export AWS_CA_BUNDLE={certificate}"] if certificate else []),
        "",
        "aws CLI:",
        f"  aws --endpoint-url {endpoint} s3 mb s3://data",
        f"  aws --endpoint-url {endpoint} s3 sync FOLDER s3://data/",
        "boto3:",
        f'  boto3.client("s3", endpoint_url="{endpoint}", region_name="{config.gateway.region}")',
        "files:",
    ]
    if config.mount.point:
        lines += [f"  the store is mounted at {config.mount.point}"]
    else:
        lines += [
            f"  {_own_command()} mount --config {config.run_folder}/effective.yaml MOUNTPOINT",
        ]
    lines += ["", "Ctrl-C stops it.", ""]
    return "\n".join(lines)


def _own_command() -> str:
    """How this program is called: by name if the shell finds it, else by its path (as from a
    virtual environment that is not active)."""
    own = Path(sys.executable).with_name("craqen")
    found = shutil.which("craqen")
    if found is not None and (not own.exists() or Path(found).samefile(own)):
        return "craqen"
    return shlex.quote(str(own)) if own.exists() else f"{sys.executable} -m craqen.core.cli"
