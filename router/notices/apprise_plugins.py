"""Apprise's plugin for a URL, at the price of that plugin.

Apprise loads all of its hundred plugins for the first URL: a quarter of a second of each start, and what they import.
The channels that most sites have need one or two of them.
"""

import importlib
import warnings
from functools import cache
from typing import Any

import apprise

_USUAL = {
    **dict.fromkeys(("json", "jsons"), ("custom_json", "NotifyJSON")),
    **dict.fromkeys(("form", "forms"), ("custom_form", "NotifyForm")),
    **dict.fromkeys(("xml", "xmls"), ("custom_xml", "NotifyXML")),
    **dict.fromkeys(("mailto", "mailtos"), ("email", "NotifyEmail")),
}
"""Scheme → module and class below apprise.plugins."""


def plugin_of(url: str, asset: apprise.AppriseAsset | None = None) -> Any:
    """What `apprise.Apprise.instantiate` gives for a URL; None where Apprise knows none for it. Never raises."""
    try:
        kind = _class_of(url.partition("://")[0].lower())
        if kind is None:
            return apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        given = kind.parse_url(url.replace("/#", "/%23"))
        return kind(**given, tag=set(), asset=asset or apprise.AppriseAsset()) if given else None
    except Exception:  # whatever a plugin's parser raises
        return None


def _class_of(scheme: str) -> Any:
    """The plugin's class for a usual scheme; for any other None, and all plugins are loaded."""
    if scheme not in _USUAL:
        _load_all()
        return None
    return _loaded(*_USUAL[scheme])


@cache
def _loaded(module: str, name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # modules that some plugins still import
        return getattr(importlib.import_module(f"apprise.plugins.{module}"), name)


@cache
def _load_all() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apprise.Apprise.instantiate("json://127.0.0.1:9/")
