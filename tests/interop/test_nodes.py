"""Two nodes on one PostgreSQL: what one learns the other knows; each goes on without the other, and without both."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.ports import endpoint
from tests.support.postgres import postgresql_database, postgresql_server, postgresql_template
from tests.support.raw_sip import Call, Peer, answers
from tests.support.router_process import RouterProcess
from tests.support.world import Place, Plan, World, world

pytestmark = pytest.mark.peers
__all__ = ["postgresql_database", "postgresql_server", "postgresql_template"]

ONE, TWO = "+12125550191", "+12125550192"
PLANS = {"shared": Plan(site_keys={"elins": [ONE, TWO]})}
PATIENCE = 40.0


def wait_for(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (it := found()):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)
    return it


@contextmanager
def two_nodes(folder: Path, database: str) -> Iterator[tuple[World, RouterProcess]]:
    """The world of one node, and the other node: the same configuration but for its name and addresses."""
    locations = {"database": database, "sources": ["registered", "site"]}
    with world(folder / "one", PLANS, locations=locations, node="hq-1") as built:
        address = built.street["stranger"].address
        here = endpoint(address)
        config = {
            **built.router.config,
            "node": "hq-2",
            "listen": [f"udp://{here}", f"tcp://{here}"],
            "health": {"listen": f"http://{endpoint(address)}"},
        }
        second = RouterProcess(folder / "two", config, probe_from=built.street["phone"].address)
        with second:
            yield built, second


def dial(place: Place, phone: Peer, node: RouterProcess, user: str) -> Call:
    """A 911 call by a node, answered and ended."""
    call = Call(peer=phone, router=node.sip, user=user)
    call.dial()
    call.answered()
    call.hang_up()
    return call


def shown(psap: Peer, call: Call) -> str:
    """The callback number that the PSAP saw."""
    return str(psap.messages("INVITE", call_id=call.call_id)[0].get("p-asserted-identity"))


def called_back(node: RouterProcess, carrier: Peer, number: str, phone: Peer) -> bool:
    """Whether a callback by a node reaches that very phone."""
    back = Call(peer=carrier, router=node.sip, user="+12125550111", uri=f"sip:{number}@{node.sip}")
    back.dial()
    final = wait_for(
        lambda: [one for one in carrier.messages(call_id=back.call_id) if one.status >= 200], "an answer"
    )
    carrier.send(back.ack(final[0]), node.sip)
    return bool(phone.messages("INVITE", call_id=back.call_id))


@contextmanager
def without_connections(server: str, database: str) -> Iterator[None]:
    """The database takes nobody, and whoever is connected is thrown out."""
    name = database.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(server, autocommit=True) as admin:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


@pytest.mark.long
def test_two_nodes_share_what_they_lend_and_go_on_alone(
    tmp_path: Path, postgresql_server: str, postgresql_database: str
) -> None:
    with two_nodes(tmp_path, postgresql_database) as (built, second):
        place, first = built["shared"], built.router
        with (
            place.peer("phone", rule=answers(180, 200)) as phone,
            place.peer("second_phone", rule=answers(180, 200)) as other,
            place.peer("provider_a", rule=answers(180, 200)) as psap,
            Peer(built.street["pbx"], rule=answers(180, 486)) as pbx,
            Peer(built.street["carrier"]) as carrier,
        ):
            wait_for(lambda: second.metric("edge911_devices") == 1, "devices imported by one node reach the other")
            wait_for(
                lambda: first.metric("edge911_nodes") == second.metric("edge911_nodes") == 2, "each sees the other"
            )
            assert ONE in shown(psap, dial(place, phone, first, place.unregistered))
            assert TWO in shown(psap, dial(place, other, second, f"{place.unregistered[:-1]}8"))
            # Each node hears of the other's lease, and calls the other's phone back.
            wait_for(lambda: first.metric("edge911_leases") == second.metric("edge911_leases") == 2, "both know both")
            assert called_back(second, carrier, ONE, phone)
            assert called_back(first, carrier, TWO, other)
            wait_for(
                lambda: any(TWO.encode() in file.read_bytes() for file in first.folder.rglob("*lease*")),
                "what the other node lent is on this one's disk, a moment after it is known",
            )
            first.kill9()
            assert called_back(second, carrier, ONE, phone)
            with without_connections(postgresql_server, postgresql_database):
                # It starts from its disk: devices, its own leases, those of the other node.
                first.start()
                call = dial(place, phone, first, place.device)
                arrived = psap.messages("INVITE", call_id=call.call_id)[0]
                assert place.callback in arrived.get("p-asserted-identity")
                assert place.room.encode() in arrived.body
                assert called_back(first, carrier, ONE, phone)
                assert called_back(first, carrier, TWO, other)
                assert not called_back(second, carrier, place.callback, phone), "it cannot know of that lease"
            wait_for(lambda: second.metric("edge911_leases") == 3, "it catches up")
            assert called_back(second, carrier, place.callback, phone)
            (record,) = wait_for(lambda: second.records(call.call_id), "the record of a call without a database")
            assert record["node"] == "hq-1"
            assert pbx.messages("INVITE")
