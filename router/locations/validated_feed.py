"""What the LVF said of the addresses of sites, for the call process and for commands: a followed table."""

from collections.abc import Callable
from pathlib import Path

from e911.lost import ValidatedAddresses
from router.locations.table_feed import Followed, read_once
from router.store.validated_addresses import TABLE, address_rows, addresses_of


def followed_addresses(use: Callable[[ValidatedAddresses], None]) -> Followed[ValidatedAddresses]:
    """The table as calls use it."""
    return Followed(table=TABLE, read=address_rows, make=addresses_of, use=use)


def validated_now(url: str, directory: Path) -> ValidatedAddresses:
    """The table for a command; empty where neither the database nor this node knows it. Makes no file."""
    return read_once(url, directory, followed_addresses(lambda _: None), {})
