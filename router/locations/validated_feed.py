"""What the LVF said of the addresses of sites, for the call process and for commands: a followed table."""

from collections.abc import Callable
from pathlib import Path

from e911.lost import ValidatedAddresses
from router.locations.table_feed import Followed, TableFeed
from router.store.errors import StoreError
from router.store.validated_addresses import TABLE, address_rows, addresses_of


def followed_addresses(
    use: Callable[[ValidatedAddresses], None], *, is_kept: bool = True
) -> Followed[ValidatedAddresses]:
    """The table as calls use it."""
    return Followed(table=TABLE, read=address_rows, make=addresses_of, use=use, is_kept=is_kept)


def validated_now(url: str, directory: Path) -> ValidatedAddresses:
    """The table for a command: the database's, else the last known good one, else an empty one. Makes no file."""
    found: list[ValidatedAddresses] = [{}]
    TableFeed(url, [followed_addresses(found.append)], directory=directory).load_kept()
    reading = TableFeed(url, [followed_addresses(found.append, is_kept=False)], directory=directory)
    try:
        reading.look()
    except StoreError:
        pass  # said of the devices, which are in the same database
    finally:
        reading.stop()
    return found[-1]
