"""`edge911 explain`: the decision a call would get."""

from pathlib import Path
from typing import Annotated, Any

import typer

from router.cli.common import ConfigOption, fail, load_or_exit


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
          edge911 explain +12125550123 933 --json
        """
        for name, text in (("FROM", caller), ("TO", dialled)):
            if not text.isprintable():
                fail(f"{name}: a character of it cannot be sent in an INVITE; write a number, a user or a SIP URI")
        if not dialled.strip():
            fail("TO is empty; write 911, 933, a number or a URI")
        loaded = load_or_exit(config)
        if source:
            from router.sources import parse_address

            if parse_address(source) is None:
                fail(f"--source {source}: not an IP address")
        document, reference = b"", ""
        if ":" in location and not Path(location).exists():
            reference = location
        elif location:
            try:
                document = Path(location).read_bytes()
            except OSError as error:
                fail(f"--location {location}: {error.strerror or error}")
        decision, health = _decide(loaded, caller, dialled, source, document, reference)
        if as_json:
            import json

            typer.echo(json.dumps(decision | {"database": health}, indent=2, ensure_ascii=False))
        else:
            if health != "ok":
                typer.echo(f"warning: the registered devices could not be read: {health}", err=True)
            _print(decision)


def _decide(
    loaded: Any, caller: str, dialled: str, source: str, document: bytes, reference: str
) -> tuple[dict[str, Any], str]:
    import structlog

    from e911.locate import DeviceTable
    from e911.location import Device
    from router.decision import Rules
    from router.device_feed import DeviceFeed
    from router.explain import Interfaces, explain
    from router.listening import ListeningPoints, listening_points
    from router.lookups import locate_now
    from router.sources import Sources
    from router.trunks import known_addresses, names_of
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
    located = locate_now(loaded.config.dns.endpoints, names_of(loaded.config.trunks))
    addresses = known_addresses(loaded.config.trunks, located.__getitem__)
    sources = Sources(loaded.config, addresses)
    points = ListeningPoints(listening_points(loaded.config))
    key = bytes(32)  # not the node's: looking must make no file, and nothing shown here is secret or sent
    try:
        found = explain(
            Rules(loaded, sources.trunk_addresses, key),
            sources,
            devices,
            caller,
            dialled,
            source,
            document=document,
            reference=reference,
            interfaces=Interfaces(loaded.config, points, addresses),
        )
        return found, health[-1]
    except RemoteError as error:
        fail(f"{caller} → {dialled}: {error}")


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
        f"{decision['callback']} (the {decision['callback_source']}'s)" if decision["callback"] else "none known",
        "" if decision["callback"] else "bold red",
    )
    location = decision["location"]
    line("Location", _place(location) if location else "not known", "bold" if location else "bold red")
    for answer in decision["location_sources"]:
        mark = {"won": "✔", "knew": "·", "missed": "✘"}[answer["outcome"]]
        console.print(f"{'':<10}{mark} {answer['source']:<11}{answer['outcome']:<7}{answer['reason']}")
    for number, route in enumerate(decision.get("routes", []), 1):
        _print_route(console, line, number, route)
    if not any("skipped" not in route for route in decision.get("routes", [])) and served:
        line("At worst", "no route is left for this call: 503 at once, and an alarm", "bold red")
    elif "worst_case_seconds" in decision:
        line("At worst", f"{decision['worst_case_seconds']:g} s to the end of the ladder, then 503 and an alarm")
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
    for text in texts:
        console.print(Text(f"{'':<10}{text}"))


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
    return "; ".join(part for part in (street, town, finer, point) if part)
