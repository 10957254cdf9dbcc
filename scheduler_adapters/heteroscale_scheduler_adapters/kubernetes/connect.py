"""Finds a cluster's address and login: a kubeconfig, or the pod that this runs in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from kubernetes_asyncio.client.configuration import Configuration
from kubernetes_asyncio.config import kube_config
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_HOST_ENV_NAME,
    SERVICE_TOKEN_FILENAME,
    InClusterConfigLoader,
)

from heteroscale_scheduler_adapters.kubernetes.settings import KubernetesSettings
from heteroscale_scheduler_adapters.port import SettingsError, UnavailableError

HOME = "~/.kube/config"
ACCOUNT = Path(SERVICE_TOKEN_FILENAME).parent


async def configuration(
    settings: KubernetesSettings,
    environment: Mapping[str, str] = os.environ,
    account: Path = ACCOUNT,
) -> Configuration:
    """Return how the cluster is reached. ``account``: where a pod has its account's token and authority.

    Raises:
        SettingsError: no login is there, or it cannot be read; the text names the file and the field.
        UnavailableError: the program that gives the login did not.

    """
    found = Configuration()
    found.connection_pool_maxsize = 64
    path = settings.kubeconfig
    if path is None and environment.get(SERVICE_HOST_ENV_NAME) and settings.context is None:
        _in_cluster(found, environment, account)
        return found
    await _from_file(found, path or environment.get("KUBECONFIG") or HOME, settings.context)
    return found


def _in_cluster(found: Configuration, environment: Mapping[str, str], account: Path) -> None:
    try:
        InClusterConfigLoader(
            token_filename=str(account / Path(SERVICE_TOKEN_FILENAME).name),
            cert_filename=str(account / Path(SERVICE_CERT_FILENAME).name),
            environ=dict(environment),
        ).load_and_set(found)
        _reread(found, account / Path(SERVICE_TOKEN_FILENAME).name)
    except (ConfigException, OSError) as error:
        raise SettingsError(
            f"the pod's login cannot be used: {error}; does the pod have a service account, with "
            "automountServiceAccountToken?"
        ) from error


def _reread(found: Configuration, token: Path) -> None:
    """Have a token that the kubelet has changed used at once: its file is looked at before each call."""
    seen: list[float] = [0.0]

    def again(configuration: Configuration) -> None:
        try:
            changed = token.stat().st_mtime_ns
            if changed != seen[0]:
                said = token.read_text().strip()
                configuration.api_key["BearerToken"] = f"Bearer {said}"
                seen[0] = changed
        except OSError:
            return  # between two tokens; the old one is good for a while

    found.refresh_api_key_hook = again


def _files(path: str) -> str:
    places = [Path(one).expanduser() for one in path.split(os.pathsep) if one]
    if not any(one.is_file() for one in places):
        raise SettingsError(
            f"there is no kubeconfig {path}, and no Kubernetes pod around: name a file in `kubeconfig`"
        )
    return os.pathsep.join(map(str, places))


async def _from_file(found: Configuration, path: str, context: str | None) -> None:
    named = await asyncio.to_thread(_files, path)
    try:
        loader = await kube_config.load_kube_config(
            config_file=named, context=context, client_configuration=found, persist_config=False
        )
    except (ConfigException, AssertionError, OSError, ValueError, TypeError, KeyError) as error:
        wanted = f"context {context!r} of " if context else ""
        raise SettingsError(f"{wanted}kubeconfig {path} cannot be used: {error}") from error
    except Exception as error:  # the program that gives the login may raise anything
        raise UnavailableError(f"kubeconfig {path}: no login was given: {error}") from error
    _refresh(found, loader)


def _refresh(found: Configuration, loader: kube_config.KubeConfigLoader) -> None:
    """Ask the program that gives the login again when its token has run out."""
    if not hasattr(loader, "exec_plugin_expiry"):
        return

    async def again(configuration: Configuration) -> None:
        await loader.load_from_exec_plugin()
        configuration.api_key["BearerToken"] = loader.token

    found.refresh_api_key_hook = again
