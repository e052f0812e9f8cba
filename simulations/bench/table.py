"""The measurements for people, in 80 columns."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulations.bench.measured import Failover, Latency, LoadStep, Measurements, Spread


def render(found: Measurements, console: Console) -> None:
    """Print everything."""
    console.print(
        f"edge911 {found.version}, Python {found.python}, {found.processors} processors, {found.devices} devices; "
        f"load average {found.load_average_before[0]:.2f} before, {found.load_average_after[0]:.2f} after"
    )
    console.print(f"without calls: {found.idle_cpu_percent:g} % of a processor, {found.idle_pss_mib:g} MiB\n")
    console.print(_load(found.load))
    console.print(_times(found.latency, found.failover))
    console.print(f"{found.notices_taken} notices taken by the webhook (a storm is folded).")
    for problem in found.problems:
        console.print(f"[bold red]FAIL[/] {escape(problem)}")
    if found.ok:
        console.print(f"[bold green]PASS[/] {_praise(found.load)}")


def _praise(steps: list[LoadStep]) -> str:
    beyond = [step.rate for step in steps if step.failed]
    if not beyond:
        return "every call went as it should."
    return f"every call that had to; at {min(beyond)} calls/s calls failed: beyond what this machine can do now."


def _load(steps: list[LoadStep]) -> Table:
    table = _table("911 calls with location, SIPp on both sides; CPU per call in ms")
    for name in ("calls/s", "reached", "calls", "failed", "retrans.", "CPU SIP", "CPU all", "+ records", "MiB"):
        table.add_column(name, justify="right")
    for step in steps:
        table.add_row(
            str(step.rate),
            f"{step.rate_reached:.0f}",
            str(step.calls),
            _count(step.failed),
            str(step.retransmissions),
            f"{step.call_process_cpu_ms_per_call:.2f}",
            f"{step.cpu_ms_per_call:.2f}",
            f"{step.cpu_ms_per_call_with_records:.2f}",
            f"{step.pss_mib:.0f}",
        )
    return table


def _times(latency: Latency, failover: list[Failover]) -> Table:
    table = _table("Times in ms")
    table.add_column("", no_wrap=True)
    for name in ("calls", "failed", "min", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right")
    for title, times in (
        ("INVITE, through the router", latency.invite_ms),
        ("180, back through it", latency.ringing_ms),
        (f"added, INVITE to 180 at {latency.rate}/s", latency.added_ms),
    ):
        table.add_row(title, str(latency.calls), _count(latency.failed), *_columns(times))
    titles = {"refuses": "next provider after 503", "closed": "… after a closed port", "silent": "… after silence"}
    for case in failover:
        title = titles[case.first_provider]
        if case.timeout_ms is not None:
            title += f" of {case.timeout_ms:g}"
        table.add_row(title, str(case.calls), _count(case.failed + case.early), *_columns(case.next_invite_ms))
    return table


def _columns(times: Spread | None) -> list[str]:
    if times is None:
        return ["-"] * 5
    shown = (times.min, times.p50, times.p90, times.p99, times.max)
    return [f"{value:.2f}" if value < 100 else f"{value:.0f}" for value in shown]


def _count(failed: int) -> str:
    return f"[bold red]{failed}[/]" if failed else "0"


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
