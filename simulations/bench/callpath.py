"""CPU of the call path, message by message: a router with no sockets, so that the system's share is left out.

`python -m simulations.bench.callpath` places 911 calls (or ordinary ones) through a CallRouter with its journal and
log, and prints microseconds of CPU for each message of a call. It is what to profile with (`--profile`), and it
repeats within a few per cent where whole-system figures do not.
"""

import argparse
import cProfile
import gc
import logging
import pstats
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from config.load import load_config
from e911.locate import DeviceTable
from e911.location import CivicAddress, Device
from router.calls.dispatch import CallRouter
from router.calls.setup import Setup
from router.emergency.rules import Rules
from router.journal.writer import JournalWriter
from router.network.listening import ListeningPoints
from router.network.lookups import Resolver
from router.network.sources import Sources
from router.network.trunks import Trunks
from router.process.telemetry import configure_logging
from sip.flow import Flow, ListeningPoint

KEY = b"k" * 32
PHONE = ("127.0.10.9", 5061)
PROVIDER = ("127.0.10.2", 5060)
CARRIER = ("127.0.10.5", 5060)

CONFIG = """
node: bench
listen: ["udp://127.0.10.1:5060"]
networks: {inside: [127.0.10.9/32], outside: [127.0.10.2/32, 127.0.10.5/32]}
trunks:
  primary: {target: "sip:127.0.10.2:5060", probe: "off", large_messages: udp}
  carrier: {target: "sip:127.0.10.5:5060", probe: "off"}
routes: {outbound: [carrier]}
emergency:
  default: {site: bench}
  routes: [{name: primary, trunk: primary, profile: pidf-lo, timeout: 2s}]
locations: {sources: [registered]}
sites:
  - id: bench
    name: Bench
    address:
      {country: US, state: NY, city: Albany, house_number: "1", street: Lake, street_suffix: RD, postal_code: "12207"}
    callback: "+12125550100"
    notify: [desk]
contacts: {desk: {send: ["json://127.0.0.1:9/911"]}}
"""

ADDRESS = CivicAddress(
    country="US",
    state="NY",
    city="Albany",
    street="Lake",
    street_suffix="RD",
    building="Building 2",
    room="484",
    postal_code="12207",
)

SDP = (
    "v=0\r\no=pbx 53655765 2353687637 IN IP4 127.0.10.9\r\ns=call\r\nc=IN IP4 127.0.10.9\r\nt=0 0\r\n"
    "m=audio 20000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
)


class World:
    """A router, and the two ends of each call."""

    def __init__(self, folder: Path, devices: int) -> None:
        path = folder / "edge911.yaml"
        path.write_text(CONFIG)
        loaded = load_config(path)
        self.point = ListeningPoint("udp", "127.0.10.1", 5060)
        points = ListeningPoints([self.point])
        trunks = Trunks(loaded.config, points, Resolver())
        sources = Sources(loaded.config, trunks.addresses())
        table = DeviceTable()
        for number in range(devices):
            user = f"+1212555{number:04d}"
            table.put(
                Device(
                    device=user,
                    name=f"User {number}",
                    callback=user,
                    civic=CivicAddress(
                        country="US",
                        state="NY",
                        city="Albany",
                        street="Lake",
                        street_suffix="RD",
                        house_number=str(number),
                        building="Building 2",
                        floor="18",
                        room="484",
                        postal_code="12207",
                    ),
                )
            )
        self.now = 1000.0
        self.logs = configure_logging(loaded.config.log, process="bench", node="bench")
        self.router = CallRouter(
            Setup(Rules(loaded, sources.trunk_addresses, KEY), sources, trunks, points),
            key=KEY,
            journal=JournalWriter(folder / "journal", "bench"),
            devices=table,
            now=lambda: self.now,
            note=self.logs.note,
        )
        self.flows = {at: Flow(self.point, *at) for at in (PHONE, PROVIDER, CARRIER)}
        self.spent: defaultdict[str, list[int]] = defaultdict(list)
        self.devices = devices

    def receive(self, step: str, raw: bytes, at: tuple[str, int]) -> list[bytes]:
        """One message in; what goes out."""
        stack = self.router.stack
        flow = self.flows[at]
        started = time.thread_time_ns()
        stack.receive(raw, flow, self.now)
        self.spent[step].append(time.thread_time_ns() - started)
        sent = [data for _, data, _ in stack.out]
        stack.out.clear()
        return sent

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        stack = self.router.stack
        started = time.thread_time_ns()
        if stack.queue.earliest <= self.now:
            stack.advance(self.now)
        self.spent["timers"].append(time.thread_time_ns() - started)
        stack.out.clear()

    def call(self, number: int, callee: str, provider: tuple[str, int]) -> None:
        """One call, from INVITE to the 200 of its BYE."""
        user = f"+1212555{number * 7919 % self.devices:04d}"
        head = (
            f'Max-Forwards: 70\r\nFrom: "User {number}" <sip:{user}@pbx.example.com>;tag=c1-{number}\r\n'
            f"{{to}}\r\nCall-ID: {number}-4662@127.0.10.9\r\n"
        )
        via = f"Via: SIP/2.0/UDP 127.0.10.9:5061;branch=z9hG4bK-4662-{number}-{{0}}\r\n"
        to = f"To: <sip:{callee}@pbx.example.com>"
        invite = (
            f"INVITE sip:{callee}@127.0.10.1:5060 SIP/2.0\r\n" + via.format(0) + head.format(to=to)
            + f"CSeq: 1 INVITE\r\nContact: <sip:{user}@127.0.10.9:5061;transport=udp>\r\n"
            f"P-Asserted-Identity: \"User {number}\" <sip:{user}@pbx.example.com>\r\n"
            "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, PRACK\r\nSupported: replaces, timer\r\n"
            "User-Agent: bench-pbx/1.0\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(SDP)}\r\n\r\n{SDP}"
        ).encode()  # fmt: skip
        trying, forwarded = self.receive("INVITE", invite, PHONE)
        assert trying.startswith(b"SIP/2.0 100"), trying
        copied = [
            line for line in forwarded.partition(b"\r\n\r\n")[0].split(b"\r\n")
            if line.startswith((b"Record-Route:", b"From:", b"To:", b"Call-ID:", b"CSeq:"))
        ]  # fmt: skip
        copied.insert(0, vias_of(forwarded))
        tagged = [line + b";tag=s9-%d" % number if line.startswith(b"To:") else line for line in copied]
        contact = b"Contact: <sip:psap@%b:5060;transport=udp>\r\n" % provider[0].encode()
        end = b"\r\nContent-Length: 0\r\n\r\n"
        no_route = [line for line in copied if not line.startswith(b"Record-Route:")]
        self.receive("100", b"SIP/2.0 100 Trying\r\n" + b"\r\n".join(no_route) + end, provider)
        self.receive("180", b"SIP/2.0 180 Ringing\r\n" + contact + b"\r\n".join(tagged) + end, provider)
        answer = b"SIP/2.0 200 OK\r\n" + b"\r\n".join(tagged) + b"\r\n" + contact
        answer += b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(SDP) + SDP.encode()
        (ok,) = self.receive("200", answer, provider)
        routes = [
            b"Route: " + line.partition(b": ")[2] for line in ok.split(b"\r\n") if line.startswith(b"Record-Route:")
        ]
        to_line = next(line for line in ok.split(b"\r\n") if line.startswith(b"To:")).decode()
        for count, method in ((1, "ACK"), (2, "BYE")):
            request = (
                f"{method} sip:psap@{provider[0]}:5060;transport=udp SIP/2.0\r\n" + via.format(count)
                + b"\r\n".join(routes).decode() + "\r\n" + head.format(to=to_line)
                + f"CSeq: {count} {method}\r\nContent-Length: 0\r\n\r\n"
            ).encode()  # fmt: skip
            (onward,) = self.receive(method, request, PHONE)
        copied = [
            line for line in onward.partition(b"\r\n\r\n")[0].split(b"\r\n")
            if line.startswith((b"From:", b"To:", b"Call-ID:", b"CSeq:"))
        ]  # fmt: skip
        copied.insert(0, vias_of(onward))
        self.receive("200 to BYE", b"SIP/2.0 200 OK\r\n" + b"\r\n".join(copied) + end, provider)

    def housekeeping(self) -> None:
        """What the process does ten times a second."""
        started = time.thread_time_ns()
        self.router.write_waiting()
        self.spent["journal"].append(time.thread_time_ns() - started)
        started = time.thread_time_ns()
        self.logs.render()
        self.spent["log"].append(time.thread_time_ns() - started)


def vias_of(request: bytes) -> bytes:
    """The Via values of a request in one line, as SIPp's providers send them back."""
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return b"Via: " + b", ".join(line[5:] for line in lines if line.startswith(b"Via: "))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.callpath", description=__doc__)
    parser.add_argument("--calls", type=int, default=6000, help="calls to place (default 6000)")
    parser.add_argument("--rate", type=float, default=1000, help="calls a second of virtual time (default 1000)")
    parser.add_argument("--call", choices=("911", "normal"), default="911", help="911 or ordinary calls")
    parser.add_argument("--profile", action="store_true", help="print where the time goes (cProfile)")
    options = parser.parse_args()
    warm_up = 100
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), 10_000)
        callee, provider = ("911", PROVIDER) if options.call == "911" else ("2125550177", CARRIER)
        logging.disable(logging.ERROR)
        gc.disable()
        profile = cProfile.Profile()
        for number in range(options.calls + warm_up):
            if number == warm_up:
                world.spent.clear()  # warmed up
                if options.profile:
                    profile.enable()
            world.call(number, callee, provider)
            world.advance(1 / options.rate)
            if number % int(options.rate / 10) == 0:
                world.housekeeping()
        profile.disable()
        total = 0.0
        for step, spent in world.spent.items():
            # The twentieth part that was quickest: what it costs where nothing else on the machine is in the way.
            per_call = sorted(spent)[len(spent) // 20] * len(spent) / options.calls / 1000
            total += per_call
            print(f"{step:12} {per_call:8.1f} µs   (mean {sum(spent) / options.calls / 1000:8.1f})")
        print(f"{'a call':12} {total:8.1f} µs")
        if options.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(90)


if __name__ == "__main__":
    main()
