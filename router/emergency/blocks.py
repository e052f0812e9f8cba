"""Blocks by hand: a device or an address whose 911 calls are refused for a while, because somebody said so.

Nothing is ever blocked by itself: a flood of 911 calls raises an alarm (router.emergency.floods), a person decides.
Each block has a reason and an end. They are in `state_directory/blocks.json`, one node's own; the call process
looks at the file each second. A file that cannot be read blocks nobody: a 911 call too many is better than one too
few.
"""

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from e911.numbers import canonical_user
from e911.record import Caller
from router.network.sources import parse_address

log = logging.getLogger(__name__)

FILE = "blocks.json"
LONGEST = 86_400.0
"""Seconds that a block may last: what lasts longer belongs into the configuration of the PBX."""
MOST = 1_000


class BlocksError(Exception):
    """The blocks cannot be read or written; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Whose 911 calls are refused. since and until: seconds since 1970 (UTC)."""

    who: str
    """An IP address, or what a caller is known by: the name of a registered device, or a number in any spelling."""
    reason: str
    since: float
    until: float


class Blocks:
    """The blocks in force, as the call process sees them."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._seen: tuple[int, int, int] | None = None
        self._by_who: dict[str, Block] = {}

    def __bool__(self) -> bool:
        return bool(self._by_who)

    def __len__(self) -> int:
        return len(self._by_who)

    def look(self) -> None:
        """Read the file again where it is another one; called each second."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            seen = (0, 0, 0)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            found = read_blocks(self._path.parent)
        except BlocksError as error:
            log.error("blocks-not-read: %s; nobody is blocked", error)
            found = []
        self._by_who = {_key(block.who): block for block in found}

    def find(self, host: str, caller: Caller | None, at: float) -> Block | None:
        """The block that this source address, or this caller, is under; None where there is none, or it has ended."""
        names = [host]
        if caller is not None:
            names += [name for name in (caller.device, caller.number) if name]
        for name in names:
            block = self._by_who.get(_key(name))
            if block is not None and block.since <= at < block.until:
                return block
        return None


def _key(who: str) -> str:
    address = parse_address(who.strip("[]"))
    return str(address) if address is not None else canonical_user(who)


def read_blocks(directory: Path) -> list[Block]:
    """The blocks in the file, ended ones too. Raises BlocksError."""
    path = directory / FILE
    try:
        items = json.loads(path.read_bytes())
        return [
            Block(
                who=str(item["who"]),
                reason=str(item["reason"]),
                since=float(item["since"]),
                until=min(float(item["until"]), float(item["since"]) + LONGEST),
            )
            for item in items[:MOST]
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BlocksError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BlocksError(f"{path} is not as `edge911 block` writes it; remove it, then block again") from None


def write_blocks(directory: Path, blocks: Iterable[Block], now: float) -> None:
    """Replace the file, at once for whoever reads it; blocks that have ended are left out. Raises BlocksError."""
    path = directory / FILE
    made = path.with_suffix(f".{os.getpid()}")
    data = json.dumps([asdict(block) for block in blocks if block.until > now], indent=1)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        made.write_text(data + "\n", encoding="utf-8")
        made.replace(path)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise BlocksError(f"{path}: {error.strerror or error}") from None
