"""The proxy that the environment names, for whatever this program sends."""

from __future__ import annotations

import ipaddress
from urllib.request import getproxies, proxy_bypass

import httpx


def environment_proxy(scheme: str, host: str, port: int | None) -> str | None:
    """The proxy that the environment names for an origin; never one for a loopback address."""
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or is_loopback(host) or proxy_bypass(f"{host}:{port}" if port else host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        kind = proxy.partition("://")[0]
        raise httpx.UnsupportedProtocol(f"a proxy of the kind {kind} (from the environment) can't be used, only http")
    return proxy


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address, without asking anybody."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
