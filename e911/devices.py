"""The registered devices in memory: which device is calling, by address of record or by user part alone."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from e911.location import Device
from e911.numbers import canonical_user, dialable

_SCHEME = re.compile(r"(?:sips?|tel):(?://)?", re.IGNORECASE)

_NO_MAC_SEPARATORS = str.maketrans("", "", ":-.")

_Entry = Device | dict[str, Device]
"""One device, or several by key: nearly every user part has one, and a dict for each would cost too much."""


class DeviceMatch(NamedTuple):
    """The devices a caller may be; `exact` where user and host both matched (the address of record)."""

    devices: tuple[Device, ...]
    exact: bool
    is_of_another_domain: bool = False
    """Nobody fits, for who has that user part is of another domain than the caller."""


NO_DEVICE = DeviceMatch((), False)


def device_key(device: str) -> str:
    """The key a device is held under: no scheme, brackets or parameters, user canonical, host lower-cased.

    `sip:4102@PBX.example;transport=tcp` and `4102@pbx.example` have one key, and so have all spellings of a
    number. A key is a device text itself, with itself as its key.
    """
    user, host = _split(device)
    return f"{user}@{host}" if host else user


def names_of(device: str, aor: str, number: str, username: str) -> list[tuple[str, str]]:
    """(canonical user part, host or empty) of each name that such a device is found by, each once."""
    if not (aor or number or username):
        return [_split(device)]
    names = [_split(device)]
    if aor:
        names.append(_split(aor))
    names += [(canonical_user(text), "") for text in (number, username) if text]
    return [name for name in dict.fromkeys(names) if name[0]]


def canonical_host(host: str) -> str:
    """A host as compared: lower-cased, without port, brackets, parameters and trailing dot."""
    host = host.lower()
    if ":" in host or ";" in host:
        host = host.partition(";")[0]
        if host.startswith("["):
            return host[1:].partition("]")[0]
        if host.count(":") == 1:
            host = host.partition(":")[0]
    return host.rstrip(".")


def shown_numbers(device: Device) -> tuple[str, ...]:
    """The numbers, +E.164, that a PSAP is shown for 911 calls of a device: its callback number, else each number that
    it calls by (e911.locate). Empty where it has none, and shows an ELIN or its site's."""
    own = dialable(device.callback)
    if own:
        return (own,)
    users = (_split(device.device)[0], device.number, _split(device.aor)[0], device.username)
    return tuple(dict.fromkeys(number for user in users if user and (number := dialable(user))))


def _split(device: str) -> tuple[str, str]:
    """Canonical user part and lower-cased host (with its port) of a device text; host empty where none."""
    text = device.strip()
    if text.startswith("<"):
        text = text[1:].partition(">")[0].strip()
    scheme = _SCHEME.match(text)
    if scheme:
        text = text[scheme.end() :]
    user, at, host = text.rpartition("@")
    if not at:
        return canonical_user(text), ""
    return canonical_user(user), host.partition(";")[0].strip().lower()


class DeviceTable:
    """All registered devices by key, by address of record and by user part; changed in place, never locked.

    For one thread (the call process's event loop). 100,000 devices are some tens of megabytes.
    """

    __slots__ = ("_by_aor", "_by_key", "_by_mac", "_by_user", "_domains")

    def __init__(self) -> None:
        self._by_key: dict[str, Device] = {}
        self._by_user: dict[str, _Entry] = {}
        self._by_aor: dict[str, _Entry] = {}
        self._by_mac: dict[str, _Entry] = {}
        self._domains: Counter[str] = Counter()
        """The domains that devices are registered in, and how many are in each."""

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Device]:
        return iter(self._by_key.values())

    @property
    def has_hardware(self) -> bool:
        """True where any device has a hardware address, so that it is worth looking for in a request."""
        return bool(self._by_mac)

    def put(self, device: Device) -> None:
        """Add a device, or replace the one with the same key."""
        key = device_key(device.device)
        self._remove(key)
        self._by_key[key] = device
        for index, at in self._entries(device):
            _add(index, at, key, device)
        for domain in _domains_of(device):
            self._domains[domain] += 1

    def remove(self, device_name: str) -> bool:
        """Forget the device of this text (any spelling with the same key); False where there was none."""
        return self._remove(device_key(device_name))

    def _remove(self, key: str) -> bool:
        device = self._by_key.pop(key, None)
        if device is None:
            return False
        for index, at in self._entries(device):
            _discard(index, at, key)
        for domain in _domains_of(device) if self._domains else ():
            self._domains[domain] -= 1
            if not self._domains[domain]:
                del self._domains[domain]
        return True

    def _entries(self, device: Device) -> list[tuple[dict[str, _Entry], str]]:
        """Where a device stands in the indexes, each place once."""
        user, host = _split(device.device)
        found = [(self._by_user, user)]
        if host:
            found.append((self._by_aor, f"{user}@{canonical_host(host)}"))
        if device.mac:
            found.append((self._by_mac, device.mac.lower().translate(_NO_MAC_SEPARATORS)))
        if device.aor or device.number or device.username:
            users = {user}
            if device.aor:
                other, host = _split(device.aor)
                aor = f"{other}@{canonical_host(host)}"
                if (self._by_aor, aor) not in found:
                    found.append((self._by_aor, aor))
                users.add(other)
            users.update(canonical_user(text) for text in (device.number, device.username))
            found += [(self._by_user, other) for other in users if other and other != user]
        return found

    def get(self, name: str) -> Device | None:
        """The device of this text, or None."""
        return self._by_key.get(device_key(name))

    def match(self, user: str, host: str, *, is_own_domain: bool = False) -> DeviceMatch:
        """The devices a caller with this user part and host may be; the address of record first.

        Where no device has that address of record: every device with that user part, whatever its host,
        for a host is often only the address of the PBX or of this router. But not of another domain than the
        caller's, where that is a domain of other devices: alice@a is nobody where alice@b and bob@a are
        registered; with is_own_domain (the host is the phone's own domain, and no name that a PBX put there)
        also where nobody is registered in it. A +number is the same everywhere. Never raises.
        """
        return self.match_canonical(canonical_user(user), host, is_own_domain)

    def match_canonical(self, user: str, host: str, is_own_domain: bool = False) -> DeviceMatch:
        """As `match`, for a user part that `canonical_user` has seen already."""
        entry = self._by_user.get(user)
        if entry is None or not user:
            return NO_DEVICE
        if self._by_aor:
            exact = self._by_aor.get(f"{user}@{canonical_host(host)}")
            if exact is not None:
                return DeviceMatch(_devices(exact), True)
        found = _devices(entry)
        domain = _domain_of(host) if self._domains and user[0] != "+" else ""
        if domain and (is_own_domain or domain in self._domains):
            found = tuple(device for device in found if not _is_of_another(device, user, domain))
        return DeviceMatch(found, False, not found)

    def with_hardware(self, mac: str) -> tuple[Device, ...]:
        """The devices (lines) of the phone with this hardware address, 12 lower-case hexadecimal digits."""
        entry = self._by_mac.get(mac)
        return _devices(entry) if entry is not None else ()


def _domains_of(device: Device) -> set[str]:
    """The domain names of a device's addresses of record."""
    found = set()
    for text in (device.device, device.aor):
        _, at, host = text.rpartition("@")
        if at and (domain := _domain_of(host)):
            found.add(domain)
    return found


@lru_cache(maxsize=8192)
def _domain_of(host: str) -> str:
    """The domain name that stands after the @; empty for an IP address, which says where, not who."""
    name = canonical_host(host.partition(">")[0].partition(";")[0].strip())
    return "" if ":" in name or name.replace(".", "").isdigit() else name


def _is_of_another(device: Device, user: str, domain: str) -> bool:
    """True for a device whose domains are others, neither above nor below this one; registered by the user part alone
    it is of none."""
    if _split(device.device) == (user, ""):
        return False
    own = _domains_of(device)
    return bool(own) and not any(
        one == domain or one.endswith(f".{domain}") or domain.endswith(f".{one}") for one in own
    )


def _devices(entry: _Entry) -> tuple[Device, ...]:
    return (entry,) if isinstance(entry, Device) else tuple(entry[key] for key in sorted(entry))


def _add(index: dict[str, _Entry], at: str, key: str, device: Device) -> None:
    entry = index.get(at)
    if entry is None:
        index[at] = device
    elif isinstance(entry, Device):
        index[at] = {device_key(entry.device): entry, key: device}
    else:
        entry[key] = device


def _discard(index: dict[str, _Entry], at: str, key: str) -> None:
    entry = index[at]
    if isinstance(entry, Device):
        del index[at]
        return
    del entry[key]
    if len(entry) == 1:
        (index[at],) = entry.values()
