"""What every test shares: peers that must be there or are visibly skipped."""

import gc
import os
import re
import shutil
import sys
import time

import pytest
from hypothesis import HealthCheck, settings

# No property fails because a machine is slow: neither an example that takes long, nor the making of examples.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

# Compiled once, not by each worker and each of some hundred processes started here.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Modules and tests collected stay: the collector need not look at them again and again, in each worker.
gc.disable()

_PACKAGES = {
    "sipp": "package sip-tester",
    "kamailio": "package kamailio",
    "baresip": "package baresip-core",
    "linphonec": "package linphone-cli",
    "chromium": "package chromium",
    "ip": "package iproute2",
    "nft": "package nftables",
    "root": "network namespaces are made by root",
}

REQUIRED = os.environ.get("EDGE911_REQUIRE_PEERS") == "1"


_FIRST = ("tests/interop/", "tests/simulations/", "tests/fuzz/", "tests/router/notices/test_notices")
"""Files that start processes and wait for them: they begin, so that no worker is left with a long one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait before files that compute; no test is named by the time, which the workers see differently."""
    now = time.time()
    for item in items:
        if any(abs(int(digits) - now) < 90 * 86_400 for digits in re.findall(r"(?<!\d)\d{10}(?!\d)", item.name)):
            raise pytest.UsageError(f"{item.nodeid} is named by the time of its collection: give its parameter an id")
    items.sort(key=lambda item: not item.nodeid.startswith(_FIRST))


def pytest_collection_finish() -> None:
    """What a test leaves behind is found as ever."""
    gc.freeze()
    gc.enable()


def _is_there(name: str) -> bool:
    return os.geteuid() == 0 if name == "root" else shutil.which(name) is not None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `peers` need SIPp, and the commands that the marks name (`root` is who runs them): without, they
    are skipped, or fail where peers are required."""
    marks = list(item.iter_markers("peers"))
    missing = [name for name in ("sipp", *(name for mark in marks for name in mark.args)) if not _is_there(name)]
    if not marks or not missing:
        return
    reason = "not there: " + ", ".join(_PACKAGES.get(name, f"package {name}") for name in missing)
    if REQUIRED:
        pytest.fail(f"{reason}, and EDGE911_REQUIRE_PEERS=1 forbids to skip", pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]  # pluggy's generator protocol
    """Where peers are required no test that needs them may be skipped, whatever asked for it."""
    report = yield
    if REQUIRED and report.skipped and item.get_closest_marker("peers") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although EDGE911_REQUIRE_PEERS=1: {report.longrepr}"
    return report
