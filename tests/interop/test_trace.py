"""Following messages: what `edge911 trace`, captures and HEP show is what SIPp saw, and real tools read it."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from router.trace.pcap_reader import read_pcap
from tests.support.certificates import Authority
from tests.support.ports import Endpoint, is_bound, loopback
from tests.support.router_process import EDGE911
from tests.support.sipp import Sipp, running
from tests.support.world import Place, Plan, World, world

pytestmark = pytest.mark.peers("tshark", "sngrep")

PLANS = {"traced": Plan(tcp=("provider_b",))}
SECONDS = 20


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"no {what} within {SECONDS} s"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, Path]]:
    """sngrep as a Homer server: where it listens, and the capture it writes."""
    folder = tmp_path_factory.mktemp("collector")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((f"{loopback().next_network()}.9", 0))
        place = Endpoint(address=free.getsockname()[0], port=free.getsockname()[1])
    out = folder / "hep.pcap"
    sngrep = subprocess.Popen(
        ["sngrep", "-N", "-q", "-L", f"udp:{place}", "-O", str(out)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        until(lambda: is_bound(place), "sngrep listening")
        yield place, out
    finally:
        if sngrep.poll() is None:
            sngrep.send_signal(signal.SIGINT)
            try:
                sngrep.wait(10)
            except subprocess.TimeoutExpired:
                sngrep.kill()
                sngrep.wait(10)


@pytest.fixture(scope="module")
def the_world(collector: tuple[Endpoint, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A router that writes captures in the clear, and sends HEP with everything private hidden."""
    place, _ = collector
    trace = {
        "pcap": {"directory": "captures", "file_size": "50MB", "redact": False},
        "hep": {"target": f"udp://{place}", "capture_id": 2001, "password": "s3cret"},
    }
    folder = tmp_path_factory.mktemp("world")
    own = Authority(tmp_path_factory.mktemp("authority")).issue("router", "DNS:edge.example.com")
    shutil.copy(own.certificate, folder / "edge.crt")
    shutil.copy(own.key, folder / "edge.key")
    tls = {"certificate": "edge.crt", "private_key": "edge.key"}
    with world(folder, PLANS, trace=trace, tls=tls) as built:
        until(lambda: built.router.metrics().get("edge911_trace_listeners") == 1, "trace process")
        yield built


def dial(place: Place) -> tuple[Sipp, Sipp, Sipp]:
    """A 911 call that the first provider refuses, over UDP, and the second takes, over TCP."""
    peers = (
        place.sipp("provider_refuses_503", "provider_a"),
        place.sipp("psap_answers", "provider_b"),
        place.caller(),
    )
    with running(*peers):
        for peer in peers:
            peer.succeed()
    return peers


def on_the_wire(peers: tuple[Sipp, ...]) -> list[bytes]:
    """Every message that the SIPps sent or got, in the order of bytes."""
    return sorted(one.message.raw for peer in peers for one in peer.trace)


def captures(a_world: World) -> list[Path]:
    return sorted((a_world.router.folder / "captures").glob("*.pcap"))


@contextmanager
def following(a_world: World, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`edge911 trace`, once the router has it."""
    before = a_world.router.metrics().get("edge911_trace_listeners", 0)
    command = [str(EDGE911), "trace", *arguments, "-c", str(a_world.router.config_file)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=a_world.router.folder,
        env={**os.environ, "COLUMNS": "120"},
    )
    try:
        until(lambda: a_world.router.metrics()["edge911_trace_listeners"] > before, "listener")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[bytes]", *, interrupt: bool = False) -> tuple[str, str]:
    """Its output, once it ended well."""
    if interrupt:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err.decode()
    return out.decode(), err.decode()


def fields(path: Path, *names: str, wanted: str = "sip") -> list[list[str]]:
    """tshark's reading of a capture: the SIP messages, as these fields.

    It is told which ports are SIP's: those of a test are any, and some belong to other protocols (48898 to AMS).
    """
    command = ["tshark", "-r", str(path), "-Y", wanted, "-T", "fields", "-E", "separator=|"]
    for protocol, port in {
        ("udp" if one.transport == "udp" else "tcp", one.destination[1]) for one in read_pcap(path)
    }:
        command += ["-d", f"{protocol}.port=={port},sip"]
    for name in names:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("|") for line in done.stdout.splitlines()]


def test_a_capture_holds_what_the_peers_saw_and_real_tools_read_it(the_world: World, tmp_path: Path) -> None:
    written = the_world.router.metrics().get("edge911_trace_export_pcap_written_total", 0)
    peers = dial(the_world["traced"])
    expected = on_the_wire(peers)
    until(
        lambda: the_world.router.metrics()["edge911_trace_export_pcap_written_total"] >= written + len(expected),
        "messages in the capture",
    )
    (capture,) = captures(the_world)
    assert stat.S_IMODE(capture.stat().st_mode) == 0o600
    call_id = peers[2].sent("INVITE")[0].call_id
    assert sorted(one.data for one in read_pcap(capture) if one.call_id == call_id) == expected

    wanted = f'sip.Call-ID == "{call_id}"'
    shown = fields(capture, "sip.Request-Line", "sip.Status-Line", "udp.dstport", "tcp.dstport", wanted=wanted)
    assert len(shown) == len(expected)
    invites = [line for line in shown if line[0].startswith("INVITE")]
    place = the_world["traced"]
    assert [line[2:] for line in invites] == [
        [str(place.router.port), ""],
        [str(place.street["provider_a"].port), ""],
        ["", str(place.street["provider_b"].port)],
    ]
    bad = "ip.checksum.status == 0 || udp.checksum.status == 0 || tcp.checksum.status == 0 || _ws.malformed"
    assert fields(capture, "frame.number", wanted=bad) == []

    out = tmp_path / "sngrep.pcap"
    sngrep = ["sngrep", "-N", "-q", "-I", str(capture), "-O", str(out)]
    subprocess.run(sngrep, check=True, timeout=60, stdin=subprocess.DEVNULL, capture_output=True)
    again = [one.data for one in read_pcap(out) if one.call_id == call_id]
    assert sorted(again) == expected


def test_a_homer_server_gets_them_with_nothing_private(the_world: World, collector: tuple[Endpoint, Path]) -> None:
    _, out = collector
    peers = dial(the_world["traced"])
    call_id = peers[2].sent("INVITE")[0].call_id
    expected = on_the_wire(peers)

    def got() -> list[bytes]:
        return [one.data for one in read_pcap(out) if one.call_id == call_id] if out.exists() else []

    until(lambda: len(got()) >= len(expected), "messages at the collector")
    arrived = got()
    assert sorted(map(len, arrived)) == sorted(map(len, expected))
    text = b"".join(arrived)
    place = the_world["traced"]
    for private in (place.device, place.callback.strip("+"), "Washington", "Extension"):
        assert private.encode() not in text
        assert private.encode() in b"".join(expected)
    assert b"INVITE sip:911@" in text
    assert {line[0] for line in fields(out, "sip.r-uri.user", wanted="sip.Method == INVITE")} == {"911"}
    counted = the_world.router.metrics()
    assert counted["edge911_trace_export_hep_lost_total"] == 0
    assert counted["edge911_trace_export_missed_total"] == 0
    assert counted["edge911_trace_lost"] == 0


@pytest.mark.long
def test_live_as_json_with_filters(the_world: World) -> None:
    place = the_world["traced"]
    with (
        following(the_world, "--json", "--emergency", "--number", place.device) as wanted,
        following(the_world, "--json", "--number", "+19005550199") as unwanted,
        following(the_world, "--json", "--unredacted", "--method", "BYE,ACK") as methods,
        following(the_world, "--json", "--host", str(place.street["provider_b"].address)) as host,
    ):
        peers = dial(place)
        expected = on_the_wire(peers)
        outputs = [ended(one, interrupt=True) for one in (wanted, unwanted, methods, host)]
    (shown, none, byes, by_host) = [[json.loads(line) for line in out.splitlines()] for out, _ in outputs]
    assert [len(one["message"]) for one in shown] == [one["size"] for one in shown]
    assert sorted(one["size"] for one in shown) == sorted(map(len, expected))
    assert place.device not in outputs[0][0]
    assert shown[0]["request_uri"] == f"sip:911@{place.router}"
    assert [one["trunk"] for one in shown if one["method"] == "INVITE" and one["direction"] == "out"][1] == (
        place.trunk("provider_a")
    )
    assert [one["at"] for one in shown] == sorted(one["at"] for one in shown)
    assert {one["transport"] for one in shown} == {"udp", "tcp"}
    assert none == []
    assert "0 messages, 0 calls" in outputs[1][1]
    assert {one["method"] for one in byes} == {"BYE", "ACK"}
    raw = {one["message"].encode() for one in byes}
    assert raw == {data for data in expected if re.search(rb"\r\nCSeq: *\d+ (BYE|ACK)\r\n", data)}
    assert [one["message"] for one in by_host] == [one["message"] for one in shown]


def test_live_as_a_ladder_as_lines_in_full_and_as_a_capture(the_world: World, tmp_path: Path) -> None:
    place = the_world["traced"]
    capture = tmp_path / "live.pcap"
    with (
        following(the_world, "--ladder") as ladder,
        following(the_world, "--count", "3") as three,
        following(the_world, "--messages", "--unredacted", "--count", "1") as full,
        following(the_world, "--pcap", str(capture), "--emergency") as lines,
        following(the_world, "--pcap", "-", "--unredacted") as piped,
    ):
        peers = dial(place)
        expected = on_the_wire(peers)
        drawn, words = ended(ladder, interrupt=True)
        assert "3 messages, 1 call" in ended(three)[1]
        text, _ = ended(full)
        shown, _ = ended(lines, interrupt=True)
        piped.send_signal(signal.SIGINT)
        raw, _ = piped.communicate(timeout=SECONDS)
    rows = [line for line in drawn.splitlines() if "│" in line]
    assert len(rows) == len(expected)
    assert f"{len(expected)} messages, 1 call" in words
    assert "INVITE 911 +location" in drawn
    assert "edge911" in drawn
    assert place.trunk("provider_b") in drawn
    assert max(map(len, drawn.splitlines())) <= 120
    first = peers[2].sent("INVITE")[0].raw.decode()
    assert "\n".join(line.strip() for line in text.splitlines()[1:]).strip() == "\n".join(
        line.strip() for line in first.splitlines()
    )
    assert len(shown.splitlines()) == len(expected)
    assert len(fields(capture, "frame.number")) == len(expected)
    assert stat.S_IMODE(capture.stat().st_mode) == 0o600
    (tmp_path / "piped.pcap").write_bytes(raw)
    assert sorted(one.data for one in read_pcap(tmp_path / "piped.pcap")) == expected

    done = the_world.router.command("trace", "--read", str(capture), "--ladder")
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if "│" in line]) == len(expected)


def test_one_call_by_its_call_id(the_world: World) -> None:
    place, router = the_world["traced"], the_world.router.sip
    phone = place.street["second_phone"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(phone.pair)
        udp.settimeout(SECONDS)
        with following(the_world, "--json", "--call-id", "one@x") as live:
            for count, name in enumerate(("one", "two", "one")):
                options = (
                    f"OPTIONS sip:{router} SIP/2.0\r\nVia: SIP/2.0/UDP {phone};branch=z9hG4bK{count}\r\n"
                    f"Max-Forwards: 70\r\nFrom: <sip:a@{phone}>;tag=1\r\nTo: <sip:{router}>\r\n"
                    f"Call-ID: {name}@x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
                )
                udp.sendto(options.encode(), router.pair)
                assert udp.recv(65_535).startswith(b"SIP/2.0 200 ")
            out, _ = ended(live, interrupt=True)
    found = [json.loads(line) for line in out.splitlines()]
    assert [(one["call_id"], one["direction"], one["status"]) for one in found] == [
        ("one@x", "in", None),
        ("one@x", "out", 200),
    ] * 2


def test_what_comes_over_tls_is_shown_as_it_was_inside(the_world: World, tmp_path: Path) -> None:
    router, phone = the_world.secure, the_world["traced"].street["phone"]
    capture = tmp_path / "tls.pcap"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with following(the_world, "--json", "--host", phone.address, "--pcap", str(capture)) as live:
        with socket.create_connection(router.pair, SECONDS, (phone.address, 0)) as plain:
            own = f"{phone.address}:{plain.getsockname()[1]}"
            with context.wrap_socket(plain) as tls:
                tls.sendall(
                    f"OPTIONS sips:{router} SIP/2.0\r\nVia: SIP/2.0/TLS {own};branch=z9hG4bKtls\r\n"
                    f"Max-Forwards: 70\r\nFrom: <sips:4012@{own}>;tag=1\r\nTo: <sips:{router}>\r\n"
                    f"Call-ID: secret@x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode()
                )
                assert tls.recv(65_535).startswith(b"SIP/2.0 200 ")
        out, _ = ended(live, interrupt=True)
    found = [json.loads(line) for line in out.splitlines()]
    assert [(one["transport"], one["direction"], one["method"]) for one in found] == [
        ("tls", "in", "OPTIONS"),
        ("tls", "out", "OPTIONS"),
    ]
    assert found[0]["source"] == own
    assert found[0]["destination"] == str(router)
    assert f"From: <sips:xxxx@{own}>;tag=1" in found[0]["message"]
    read = fields(capture, "sip.Request-Line", "sip.Status-Line", "tcp.srcport", "tcp.dstport")
    assert [line[2:] for line in read] == [
        [own.rpartition(":")[2], str(router.port)],
        [str(router.port), own.rpartition(":")[2]],
    ]
    assert read[0][0].startswith("OPTIONS sips:")
    assert read[1][1] == "SIP/2.0 200 OK"


@pytest.mark.long
def test_a_router_that_is_started_again_is_followed_again(the_world: World) -> None:
    router = the_world.router
    with following(the_world, "--seconds", "60", "--count", "1", "--emergency") as live:
        router.restart(kill=True)
        until(lambda: router.metrics()["edge911_trace_listeners"] >= 2, "both listeners again")
        dial(the_world["traced"])
        _, words = ended(live)
    assert "waiting for it" in words
    assert "it is back" in words
    assert len(captures(the_world)) == 2


@pytest.mark.long
def test_the_export_ends_and_begins_with_the_configuration(the_world: World) -> None:
    router = the_world.router
    config = dict(router.config)
    try:
        router.write_config({key: value for key, value in config.items() if key != "trace"})
        router.hup()
        until(lambda: router.metrics()["edge911_trace_listeners"] == 0, "end of the trace process")
        until(lambda: "router.trace.export" not in " ".join(router.processes().values()), "end of the trace process")
        before = captures(the_world)
        dial(the_world["traced"])
        assert captures(the_world) == before
    finally:
        router.write_config(config)
        router.hup()
    until(lambda: router.metrics()["edge911_trace_listeners"] == 1, "trace process")
    assert router.log.count("is started again") == 0


def test_without_a_router_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "edge911.yaml").write_text("listen: [udp://127.0.0.1:5060]\n")
    command = [str(EDGE911), "trace", "-c", str(tmp_path / "edge911.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no router answers at" in done.stderr
    assert "trace.sock" in done.stderr
