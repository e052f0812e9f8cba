"""Hosts with addresses of their own: Linux network namespaces, made by a test and gone with it.

Needs root, `ip` (iproute2) and for a NAT `nft` (nftables). Nothing in them leads anywhere else: no namespace has a
way to the machine's own network.

    with Networks() as nets:
        lan, wan = nets.network("lan"), nets.network("wan")
        router = nets.host("router", (lan, "10.77.0.5/24"), (wan, "198.51.100.5/24", "2001:db8:77::5/64"))
        with router.inside():            # sockets made and processes started here are that host's
            ...
"""

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def _run(*command: str, stdin: str | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace."""

    namespace: str

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets made and processes started by this thread are this host's."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        other = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            _enter(other)
            yield
        finally:
            _enter(own)
            os.close(own)
            os.close(other)

    def route(self, network: str, gateway: str) -> None:
        """Reach a network by a gateway; `default` for all others."""
        _run("ip", "-n", self.namespace, "route", "add", network, "via", gateway)

    def masquerade(self, device: str) -> None:
        """Forward, and hide what leaves by this interface behind its address; ports are always changed."""
        _run("ip", "netns", "exec", self.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = (
            "add table ip nat\n"
            "add chain ip nat post { type nat hook postrouting priority 100; }\n"
            f'add rule ip nat post oifname "{device}" masquerade random\n'
        )
        _run("ip", "netns", "exec", self.namespace, "nft", "-f", "-", stdin=rules)

    def stand_in_for(self, device: str, public: str, private: str) -> None:
        """Forward, and show one private host to the world as a public address of ours, both ways."""
        _run("ip", "netns", "exec", self.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = (
            "add table ip nat\n"
            "add chain ip nat pre { type nat hook prerouting priority -100; }\n"
            "add chain ip nat post { type nat hook postrouting priority 100; }\n"
            f'add rule ip nat pre iifname "{device}" ip daddr {public} dnat to {private}\n'
            f'add rule ip nat post oifname "{device}" ip saddr {private} snat to {public}\n'
        )
        _run("ip", "netns", "exec", self.namespace, "nft", "-f", "-", stdin=rules)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass(slots=True)
class Networks:
    """Namespaces and the networks between them; all gone at the end."""

    prefix: str = field(default_factory=lambda: f"e9{os.getpid()}x{next(_numbers)}")
    made: list[str] = field(default_factory=list)
    _links: int = 0

    def network(self, name: str) -> str:
        """A network: a bridge in a namespace of its own."""
        namespace = self._namespace(f"net-{name}")
        _run("ip", "-n", namespace, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", namespace, "link", "set", "br0", "up")
        return namespace

    def host(self, name: str, *links: tuple[str, ...]) -> Host:
        """A host: for each link a network and its addresses there, on interfaces eth0, eth1, …"""
        namespace = self._namespace(name)
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
        for number, (network, *addresses) in enumerate(links):
            self._links += 1
            device, port = f"eth{number}", f"p{self._links}"
            _run(
                *("ip", "link", "add", "name", device, "netns", namespace),
                *("type", "veth", "peer", "name", port, "netns", network),
            )
            _run("ip", "-n", network, "link", "set", port, "master", "br0", "up")
            for address in addresses:
                more = ("nodad",) if ":" in address else ()
                _run("ip", "-n", namespace, "address", "add", address, "dev", device, *more)
            _run("ip", "-n", namespace, "link", "set", device, "up")
        return Host(namespace)

    def _namespace(self, name: str) -> str:
        full = f"{self.prefix}-{name}"
        _run("ip", "netns", "add", full)
        self.made.append(full)
        return full

    def __enter__(self) -> "Networks":
        for name in Path("/run/netns").glob("e9*x*-*"):
            # Of a test process that was killed.
            owner = name.name[2:].partition("x")[0]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                subprocess.run(["ip", "netns", "delete", name.name], capture_output=True, check=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for namespace in self.made:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
