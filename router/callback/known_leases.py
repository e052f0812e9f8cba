"""The leases that commands see: those of this node's disk and those of the database, without changing either."""

import time
from typing import NamedTuple

from config.load import LoadedConfig
from e911.elin import Lease, Leases
from router.callback.kept_leases import read_leases
from router.callback.leasing import Lending, pools_of, prefers_of
from router.store.engine import StoreError, open_store, reading
from router.store.leases import all_leases
from router.store.nodes import sharing_nodes


class Known(NamedTuple):
    """What is known."""

    leases: Leases
    nodes: tuple[str, ...]
    """The nodes that share the ELINs, in order."""
    database: str
    """`ok`, or why the database could not be asked."""

    def lending(self, node: str, at: float) -> Lending:
        """For a decision as a node would make it now."""
        return Lending(self.leases, at, node, prefers_of(self.leases.pools, self.nodes, node))


def known_leases(loaded: LoadedConfig) -> Known:
    """Never raises: where the database cannot be asked, this node's own leases are known."""
    leases = Leases(pools_of(loaded.config))
    nodes: tuple[str, ...] = (loaded.config.node,)
    health = "ok"
    found: list[Lease] = []
    try:
        engine = open_store(loaded.database_url, create=False, wait=2.0)
        try:
            with reading(engine) as conn:
                found = all_leases(conn)
                nodes = sharing_nodes(conn, loaded.config.node)
        finally:
            engine.dispose()
    except StoreError as error:
        health = error.reason
    for lease in [*read_leases(loaded.state_directory), *found]:
        leases.merge(lease)
    leases.prune(time.time())
    return Known(leases, nodes, health)
