"""RFC 3263: which questions are asked, which servers follow, in which order one request tries them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip.locating import (
    MAX_TARGETS,
    NOWHERE,
    Located,
    Naptr,
    Question,
    Record,
    Server,
    Srv,
    Weighted,
    Where,
    by_weight,
    in_order,
    locate,
)

UDP_TCP = ("udp", "tcp")
ALL = ("udp", "tcp", "tls")
Zone = dict[tuple[str, str], list[Record]]

A: Zone = {("a.example.com", "A"): ["192.0.2.1"], ("b.example.com", "A"): ["192.0.2.2"]}
SRV: Zone = {
    **A,
    ("_sip._udp.example.com", "SRV"): [Srv(20, 0, 5070, "b.example.com"), Srv(10, 0, 5060, "a.example.com")],
    ("_sip._tcp.example.com", "SRV"): [Srv(10, 0, 5080, "a.example.com")],
    ("_sips._tcp.example.com", "SRV"): [Srv(10, 0, 5081, "b.example.com")],
    ("example.com", "A"): ["192.0.2.9"],
}
NAPTR: Zone = {
    **SRV,
    ("example.com", "NAPTR"): [
        Naptr(50, 50, "s", "SIP+D2U", "_sip._udp.example.com"),
        Naptr(10, 50, "s", "SIPS+D2T", "_sips._tcp.example.com"),
        Naptr(20, 50, "S", "sip+d2t", "_sip._tcp.example.com"),
        Naptr(1, 1, "s", "SIP+D2S", "_sip._sctp.example.com"),
        Naptr(1, 1, "u", "E2U+sip", ""),
    ],
}


def servers(where: Where, zone: Zone, transports: tuple[str, ...] = UDP_TCP) -> list[Server]:
    """As a client of DNS would: ask what is missing until nothing is."""
    known: dict[Question, list[Record]] = {}
    for _ in range(5):
        located, missing = locate(where, known.get, transports)
        if not missing:
            return in_order(located, b"call-1")
        for question in missing:
            assert question not in known
            known[question] = zone.get((question.name, question.kind), [])
    raise AssertionError("it never stops asking")


def udp(address: str, port: int = 5060) -> Server:
    return Server("udp", address, port)


@pytest.mark.parametrize(
    ("where", "zone", "transports", "expected"),
    [
        # A port is written: addresses only (4.2).
        (Where("a.example.com", 5090), NAPTR, UDP_TCP, [udp("192.0.2.1", 5090)]),
        (Where("a.example.com", 5090, "tcp"), NAPTR, UDP_TCP, [Server("tcp", "192.0.2.1", 5090)]),
        (Where("example.com", 5090), NAPTR, UDP_TCP, [udp("192.0.2.9", 5090)]),
        # A transport is written: SRV of that transport only (4.2).
        (Where("example.com", None, "tcp"), NAPTR, UDP_TCP, [Server("tcp", "192.0.2.1", 5080)]),
        (Where("example.com", None, "tls"), NAPTR, ALL, [Server("tls", "192.0.2.2", 5081)]),
        (Where("b.example.com", None, "tls"), NAPTR, ALL, [Server("tls", "192.0.2.2", 5061)]),
        # sips: TLS only (4.1).
        (Where("example.com", None, "", True), NAPTR, ALL, [Server("tls", "192.0.2.2", 5081)]),
        (Where("example.com", None, "", True), SRV, ALL, [Server("tls", "192.0.2.2", 5081)]),
        (Where("example.com", None, "", True), NAPTR, UDP_TCP, []),
        # NAPTR: by order, what we cannot do left out, its later entries for the failover (4.1, 4.3).
        (
            Where("example.com"),
            NAPTR,
            UDP_TCP,
            [Server("tcp", "192.0.2.1", 5080), udp("192.0.2.1"), udp("192.0.2.2", 5070)],
        ),
        (
            Where("example.com"),
            NAPTR,
            ALL,
            [
                Server("tls", "192.0.2.2", 5081),
                Server("tcp", "192.0.2.1", 5080),
                udp("192.0.2.1"),
                udp("192.0.2.2", 5070),
            ],
        ),
        # No NAPTR: SRV of every transport, in our order.
        (
            Where("example.com"),
            SRV,
            UDP_TCP,
            [udp("192.0.2.1"), udp("192.0.2.2", 5070), Server("tcp", "192.0.2.1", 5080)],
        ),
        # No SRV: the addresses, UDP, 5060.
        (Where("a.example.com"), A, UDP_TCP, [udp("192.0.2.1")]),
        (Where("c.example.com"), A, UDP_TCP, []),
        # A name without a dot has no SRV.
        (
            Where("pbx"),
            {("pbx", "A"): ["192.0.2.5"], ("_sip._udp.pbx", "SRV"): [Srv(1, 1, 1, "a.example.com")]},
            UDP_TCP,
            [udp("192.0.2.5")],
        ),
        # A NAPTR whose SRV does not exist: the addresses.
        (
            Where("a.example.com"),
            {**A, ("a.example.com", "NAPTR"): [Naptr(1, 1, "s", "SIP+D2U", "_sip._udp.a.example.com")]},
            UDP_TCP,
            [udp("192.0.2.1")],
        ),
        # "." as the target: decidedly not here (RFC 2782), so not by the addresses either.
        (
            Where("a.example.com", None, "udp"),
            {**A, ("_sip._udp.a.example.com", "SRV"): [Srv(0, 0, 0, ".")]},
            ALL,
            [],
        ),
        # A target without an address is passed over.
        (
            Where("example.com", None, "udp"),
            {
                **A,
                ("_sip._udp.example.com", "SRV"): [
                    Srv(1, 0, 5060, "gone.example.com"),
                    Srv(2, 0, 5060, "b.example.com"),
                ],
            },
            ALL,
            [udp("192.0.2.2")],
        ),
        # Both families: all of IPv4 before IPv6.
        (
            Where("d.example.com", 5060),
            {("d.example.com", "A"): ["192.0.2.1"], ("d.example.com", "AAAA"): ["2001:db8::1"]},
            UDP_TCP,
            [udp("192.0.2.1"), udp("2001:db8::1")],
        ),
    ],
)
def test_servers_follow(where: Where, zone: Zone, transports: tuple[str, ...], expected: list[Server]) -> None:
    assert servers(where, zone, transports) == expected


def test_a_plain_name_costs_one_round_of_questions() -> None:
    _, missing = locate(Where("a.example.com"), lambda _: None, UDP_TCP)
    assert {(question.name, question.kind) for question in missing} == {
        ("a.example.com", "NAPTR"),
        ("_sip._udp.a.example.com", "SRV"),
        ("_sip._tcp.a.example.com", "SRV"),
        ("a.example.com", "A"),
        ("a.example.com", "AAAA"),
    }


def test_what_is_known_is_there_before_the_rest_is() -> None:
    known: dict[Question, list[Record]] = {Question("a.example.com", "A"): ["192.0.2.1"]}
    located, missing = locate(Where("a.example.com"), known.get, UDP_TCP)
    assert in_order(located, b"") == [udp("192.0.2.1")]
    assert missing


def test_the_same_seed_gives_the_same_order_whatever_order_dns_gave() -> None:
    records: list[Record] = [f"192.0.2.{number}" for number in range(1, 7)]
    where = Where("e.example.com", 5060)
    one, _ = locate(where, lambda question: records if question.kind == "A" else [], UDP_TCP)
    other, _ = locate(where, lambda question: records[::-1] if question.kind == "A" else [], UDP_TCP)
    assert in_order(one, b"call-1") == in_order(other, b"call-1")
    first = Counter(in_order(one, b"call-%d" % number)[0].address for number in range(600))
    assert len(first) == 6
    assert min(first.values()) > 50, "equal addresses share the calls"


def test_weights_are_kept_over_many_calls() -> None:
    targets = [Weighted(weight, (udp(f"192.0.2.{weight}"),)) for weight in (10, 30, 60)]
    first = Counter(by_weight(targets, b"call-%d" % number)[0].weight for number in range(3000))
    assert 200 < first[10] < 400
    assert 750 < first[30] < 1050
    assert 1600 < first[60] < 2000


def test_weight_zero_is_chosen_rarely_beside_others() -> None:
    targets = [Weighted(0, (udp("192.0.2.1"),)), Weighted(100, (udp("192.0.2.2"),))]
    first = Counter(by_weight(targets, b"call-%d" % number)[0].weight for number in range(2000))
    assert 0 < first[0] < 100


@given(st.lists(st.integers(0, 65535), max_size=12), st.binary(max_size=20))
def test_every_target_is_tried_once(weights: list[int], seed: bytes) -> None:
    targets = [Weighted(weight, (udp(f"192.0.2.{number}"),)) for number, weight in enumerate(weights)]
    assert sorted(by_weight(targets, seed)) == sorted(targets)
    assert by_weight(targets, seed) == by_weight(targets[::-1], seed) or len(set(weights)) < len(weights)


def test_a_flood_of_records_is_cut() -> None:
    names = [f"h{number}.example.com" for number in range(100)]
    zone: Zone = {("_sip._udp.example.com", "SRV"): [Srv(1, 0, 5060, name) for name in names]}
    zone |= {(name, "A"): [f"198.51.100.{number}" for number in range(100)] for name in names}
    assert len(servers(Where("example.com", None, "udp"), zone)) == MAX_TARGETS * 8


def test_nowhere_is_nowhere() -> None:
    assert in_order(NOWHERE, b"call-1") == []
    assert Located(()) == NOWHERE
