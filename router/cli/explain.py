"""`edge911 explain`: the decision a call would get."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.common import ConfigOption, fail, load_or_exit

if TYPE_CHECKING:
    from router.emergency.explain import SaidOfPlace


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def explain(
        caller: Annotated[str, typer.Argument(metavar="FROM", help="Who calls: a number, a user, or a SIP URI.")],
        dialled: Annotated[str, typer.Argument(metavar="TO", help="What is dialled: 911, 933, a number, a URI.")],
        source: Annotated[
            str,
            typer.Option(
                metavar="IP", help="Address the INVITE comes from. Without it: an inside phone seen nowhere."
            ),
        ] = "",
        location: Annotated[
            str,
            typer.Option(
                metavar="FILE|URI",
                help="The location the caller sends: a PIDF-LO file, or a URI (which is not asked).",
            ),
        ] = "",
        phone: Annotated[
            str,
            typer.Option(
                metavar="IP", help="Of a phone behind a PBX: its own address, where the PBX lets it through."
            ),
        ] = "",
        bssid: Annotated[
            str, typer.Option(metavar="MAC", help="Access point that the phone names in P-Access-Network-Info.")
        ] = "",
        header: Annotated[
            list[str] | None,
            typer.Option(metavar="'NAME: VALUE'", help="A further header field of the INVITE; may be repeated."),
        ] = None,
        ask: Annotated[
            bool,
            typer.Option("--ask", help="Ask the location server (LIS) as the call would; nobody else."),
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON document.")] = False,
        config: ConfigOption = None,
    ) -> None:
        """Show the decision a call would get. Sends nothing.

        Made by the code that takes calls: rule matched, location sources asked and why each did or did not win,
        what each route would be sent, the whole ladder of routes with the worst-case seconds to its end, and who
        would be told.

        \b
        For example:
          edge911 explain 4102 911
          edge911 explain 4102 911 --source 10.1.3.7
          edge911 explain sip:alice@example.com urn:service:sos
          edge911 explain 4102 911 --source 10.0.0.10 --phone 10.1.3.7
          edge911 explain 4102 911 --source 10.1.3.7 --bssid 00:1b:2c:3d:4e:5f
          edge911 explain +12125550123 933 --json
        """
        for name, text in (("FROM", caller), ("TO", dialled)):
            if not text.isprintable():
                fail(f"{name}: a character of it cannot be sent in an INVITE; write a number, a user or a SIP URI")
        from router.emergency.explain import SaidOfPlace

        if not dialled.strip():
            fail("TO is empty; write 911, 933, a number or a URI")
        loaded = load_or_exit(config)
        _check_addresses(("--source", source), ("--phone", phone))
        fields = [_field(text) for text in header or ()]
        if bssid:
            fields.append(f"P-Access-Network-Info: IEEE-802.11;i-wlan-node-id={_bssid(bssid)}")
        document, reference = _conveyed(location)
        said = SaidOfPlace(document=document, reference=reference, phone_address=phone, fields=tuple(fields))
        decision, health = _decide(loaded, caller, dialled, source, said, ask=ask)
        if as_json:
            import json

            typer.echo(json.dumps(decision | {"database": health}, indent=2, ensure_ascii=False))
        else:
            if health != "ok":
                typer.echo(f"warning: the registered devices could not be read: {health}", err=True)
            _print(decision)


def _check_addresses(*given: tuple[str, str]) -> None:
    from router.network.sources import parse_address

    for option, text in given:
        if text and parse_address(text) is None:
            fail(f"{option} {text}: not an IP address")


def _field(text: str) -> str:
    """A header field as it would be sent. Ends the command where it is none."""
    name, colon, value = text.partition(":")
    if not colon or not text.isprintable() or not name.strip().replace("-", "").isalnum():
        fail(f"--header {text}: not a header field; write 'NAME: VALUE'")
    return f"{name.strip()}: {value.strip()}"


def _bssid(text: str) -> str:
    from e911.attachment import normal_bssid

    found = normal_bssid(text)
    if not found:
        fail(f"--bssid {text}: not the MAC address of an access point; write 00:1b:2c:3d:4e:5f")
    return found


def _conveyed(location: str) -> tuple[bytes, str]:
    """The document, or the reference, that --location gives."""
    if ":" in location and not Path(location).exists():
        return b"", location
    try:
        return (Path(location).read_bytes() if location else b""), ""
    except OSError as error:
        fail(f"--location {location}: {error.strerror or error}")


def _decide(
    loaded: Any, caller: str, dialled: str, source: str, said: "SaidOfPlace", *, ask: bool
) -> tuple[dict[str, Any], str]:
    import time

    import structlog

    from e911.locate import DeviceTable
    from e911.location import Device
    from router.callback.known_leases import known_leases
    from router.emergency.explain import Interfaces, explain, synthetic_invite
    from router.emergency.rules import Rules
    from router.locating.lis_now import held_now
    from router.locations.device_feed import DeviceFeed
    from router.locations.validated_feed import validated_now
    from router.locations.wiremap_feed import wiremap_now
    from router.network.listening import ListeningPoints, listening_points
    from router.network.lookups import locate_now
    from router.network.sources import Sources
    from router.network.trunks import known_addresses, names_of
    from sip.errors import RemoteError

    # What is wrong with the database is said once, by us, and never on standard output.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    devices = DeviceTable()
    health = ["unknown"]

    def replace(found: list[Device]) -> None:
        for device in found:
            devices.put(device)

    feed = DeviceFeed(
        loaded.database_url, replace, lambda _changed, _removed: None, health.append, directory=loaded.state_directory
    )
    feed.load_now()
    feed.stop()
    wiremap = wiremap_now(
        loaded.database_url, loaded.state_directory, loaded.config.locations.wiremap.bssid_ignored_bits
    )
    located = locate_now(loaded.config.dns.endpoints, names_of(loaded.config.trunks))
    addresses = known_addresses(loaded.config.trunks, located.__getitem__)
    sources = Sources(loaded.config, addresses)
    points = ListeningPoints(listening_points(loaded.config))
    key = bytes(32)  # not the node's: looking must make no file, and nothing shown here is secret or sent
    rules = Rules(loaded, sources.trunk_addresses, key)
    try:
        request = synthetic_invite(caller, dialled, source, said)
        held = held_now(rules, sources, devices, wiremap, request, source, loaded.config.dns.endpoints, ask=ask)
        found = explain(
            rules,
            sources,
            devices,
            caller,
            dialled,
            source,
            said=said,
            wiremap=wiremap,
            validated=validated_now(loaded.database_url, loaded.state_directory),
            held=held,
            interfaces=Interfaces(loaded.config, points, addresses),
            lending=known_leases(loaded).lending(loaded.config.node, time.time()),
        )
        return found, health[-1]
    except RemoteError as error:
        fail(f"{caller} → {dialled}: {error}")


def _callback(decision: dict[str, Any]) -> str:
    source = decision["callback_source"]
    if source != "elin":
        return f"{decision['callback']} (the {source}'s)"
    shared = ", shared: every ELIN is in use" if decision.get("callback_reason") else ""
    hours = decision["callback_kept_seconds"] / 3600
    return f"{decision['callback']} (an ELIN of {decision['elin_pool']}, lent for {hours:g} h{shared})"


def _print(decision: dict[str, Any]) -> None:
    from textwrap import wrap

    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)

    def line(label: str, text: str, style: str = "") -> None:
        lines = [text]
        if console.is_terminal:  # a file or a pipe gets one line for each thing
            lines = wrap(text, max(console.width - 10, 40), break_long_words=False, break_on_hyphens=False) or [""]
        for number, part in enumerate(lines):
            console.print(Text.assemble((f"{'' if number else label:<10}", "bold"), (part, style)))

    served = decision.get("served", True)
    line("Call", f"{decision['from']} → {decision['to']}, from {decision['source']} ({decision['source_side']})")
    line("Rule", decision["rule"], "" if served else "bold red")
    if decision["kind"] == "ordinary":
        for trunk in decision["trunks"]:
            line("Trunk", f"{trunk['name']}  {', '.join(trunk['targets'])}")
            for text in _way(trunk):
                console.print(Text(f"{'':<10}{text}"))
        return
    caller = decision["caller"]
    device = caller.get("device")
    line(
        "Caller",
        f"device {device} ({decision['device_reason']})" if device else f"no device ({decision['device_reason']})",
    )
    site = decision["site"]
    line("Site", (f"{site} ({decision['site_reason']})" if site else "none") + _zone(decision))
    line(
        "Callback",
        _callback(decision) if decision["callback"] else "none known",
        "" if decision["callback"] else "bold red",
    )
    location = decision["location"]
    line("Location", _place(location) if location else "not known", "bold" if location else "bold red")
    for answer in decision["location_sources"]:
        mark = {"won": "✔", "knew": "·", "missed": "✘"}[answer["outcome"]]
        console.print(
            Text(f"{'':<10}{mark} {answer['source']:<11}{answer['outcome']:<7}{answer['reason']}{_why(answer)}")
        )
    for number, route in enumerate(decision.get("routes", []), 1):
        _print_route(console, line, number, route)
    if not any("skipped" not in route for route in decision.get("routes", [])) and served:
        line("At worst", "no route is left for this call: 503 at once, and an alarm", "bold red")
    elif "worst_case_seconds" in decision:
        line("At worst", f"{decision['worst_case_seconds']:g} s to the end of the ladder, then 503 and an alarm")
    if "second_round" in decision:
        again = decision["second_round"]
        statuses = ", ".join(map(str, again["statuses"]))
        line(
            "Once more",
            f"{again['after_seconds']:g} s later, "
            f"where all fail within {again['where_all_failed_within_seconds']:g} s: "
            f"those that refuse with {statuses} or cannot be reached",
        )
    line(
        "Told", ", ".join(decision["told"]) or "nobody: no contacts are configured", "" if decision["told"] else "red"
    )


def _print_route(console: Any, line: Any, number: int, route: dict[str, Any]) -> None:
    from rich.text import Text

    title = f"{route['name']}  {route['kind']}  {', '.join(route['targets'])}"
    if "skipped" in route:
        line(f"Route {number}", f"{title}  skipped: {route['skipped']}", "dim")
        return
    line(f"Route {number}", f"{title}  after {route['starts_after_seconds_at_worst']:g} s at worst", "bold")
    if "servers" in route:
        servers = ", ".join(route["servers"]) or "none: DNS gives no server now, so the route would be passed over"
        console.print(Text(f"{'':<10}servers {servers}"))
    ways = route.get("ways", [])
    if len(ways) > 1:
        console.print(
            Text(f"{'':<10}by {ways[0]}, verified; where it fails {', '.join(ways[1:])}, each with an alarm")
        )
    elif ways:
        console.print(Text(f"{'':<10}by {ways[0]}, verified, or not at all"))
    body = " + ".join(route["body_parts"])
    texts = [*_way(route), f"INVITE {route['request_uri']} SIP/2.0", *route["headers"], f"({body})"]
    by = _LOCATION_BY.get(route["location_by"])
    if by:
        texts.append(f"location: {by}")
    if "shortfalls" in route:
        texts.append(f"not as the profile would have it: {', '.join(route['shortfalls'])}")
    for text in texts:
        console.print(Text(f"{'':<10}{text}"))


_LOCATION_BY = {
    "reference": "by reference; the provider fetches it from us",
    "id": "by the provider's own id of the place",
    "number": "not sent; the provider knows it by what the call shows",
}


def _way(route: dict[str, Any]) -> list[str]:
    """By which interface, where there is more than one to choose from, and what may go wrong there."""
    found = []
    by = route.get("leaves_by", {})
    if by.get("name") or by.get("seen_as"):
        seen = f", seen as {by['seen_as']}" if by.get("seen_as") else ""
        found.append(f"leaves by {by['name'] or 'a listening point'}, {by['socket']}{seen}")
    if "private-media-address" in route.get("warnings", ()):
        found.append("warning: private-media-address: SDP names an address for media that means nothing there")
    return found


def _why(answer: dict[str, Any]) -> str:
    """What else is to be known of a source's answer: what it was asked with, how sure and old it is, what it said."""
    parts = [answer[key] for key in ("detail", "lost") if key in answer]
    if "confidence" in answer:
        parts.append(answer["confidence"])
    if answer.get("age_seconds", 0) >= 60:
        from router.process.printable import age_text

        parts.append(age_text(answer["age_seconds"]))
    if answer.get("lost"):
        said = answer["said"]
        if said["validation"] == "not validated" and said["source"] != "registered":
            said = said | {"validation": ""}  # goes without saying: only what is registered is validated
        parts.append(_place(said))
    return f" ({'; '.join(parts)})" if parts else ""


def _zone(decision: dict[str, Any]) -> str:
    return f", zone {decision['zone']}" if decision["zone"] else ""


def _place(location: dict[str, Any]) -> str:
    street = " ".join(
        location[key]
        for key in (
            "house_number",
            "house_number_suffix",
            "pre_directional",
            "street",
            "street_suffix",
            "post_directional",
        )
        if key in location
    )
    town = " ".join(location[key] for key in ("city", "state", "postal_code", "country") if key in location)
    finer = ", ".join(
        f"{key} {location[key]}"
        for key in ("building", "floor", "unit", "room", "landmark", "additional")
        if key in location
    )
    point = f"{location['latitude']}, {location['longitude']}" if "latitude" in location else ""
    if "uncertainty" in location:
        point += f" ± {location['uncertainty']:.0f} m"
    verdict, colon, names = location.get("validation", "").partition(":")
    day = f" on {location['validated_at'][:10]}" if "validated_at" in location else ""
    return "; ".join(part for part in (street, town, finer, point, f"{verdict}{day}{colon}{names}") if part)
