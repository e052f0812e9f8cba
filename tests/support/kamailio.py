"""Kamailio as a hosted platform: registrar and proxy, outside. Its own parser is a judge of what we send."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_MODULES = "/usr/lib/x86_64-linux-gnu/kamailio/modules/"
_CONFIG = """#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
alias="{domain}"
{listen}
mpath="{modules}"
{load}
modparam("usrloc", "db_mode", 0)
modparam("registrar", "gruu_enabled", 0)
modparam("registrar", "outbound_mode", 0)
modparam("registrar", "use_path", {use_path})
modparam("registrar", "path_mode", {path_mode})
modparam("tm", "failure_reply_mode", 3)
request_route {{
    if (!mf_process_maxfwd_header("70")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    xlog("L_ALERT", "RX $rm $ru from $pr:$si:$sp path=$hdr(Path) contact=$hdr(Contact)\\n");
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (!is_method("ACK")) t_check_trans();
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        sl_send_reply("404", "Not here"); exit;
    }}
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    if (is_method("REGISTER")) {{ save("location"); exit; }}
    remove_hf("Route");
    if (is_method("INVITE")) record_route();
    if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
    xlog("L_ALERT", "TO $ru by $du route=$hdr(Route)\\n");
    if (!t_relay()) sl_reply_error();
}}
"""
_LOADED = ("tm", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "xlog", "usrloc", "registrar", "path")


class Kamailio:
    """A running Kamailio; `log` is what it said."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.process = folder, process

    @property
    def log(self) -> str:
        """Standard error so far."""
        return (self.folder / "log").read_text(errors="replace")


@contextmanager
def kamailio(
    listen: Sequence[str], domain: str, *, use_path: bool = True, path_mode: int = 2, prefix: Sequence[str] = ()
) -> Iterator[Kamailio]:
    """Start it on these `udp:ADDRESS:PORT`, wait until it answers, end it at the end.

    path_mode 2, its default: REGISTER with a Path is refused where the phone does not say `Supported: path`.
    """
    assert shutil.which("kamailio"), "no kamailio on the PATH (package kamailio)"
    folder = Path(tempfile.mkdtemp(prefix="edge911-kamailio-"))
    (folder / "run").mkdir()
    config = folder / "k.cfg"
    config.write_text(
        _CONFIG.format(
            domain=domain,
            listen="\n".join(f"listen={one}" for one in listen),
            modules=_MODULES,
            load="\n".join(f'loadmodule "{one}.so"' for one in _LOADED),
            use_path=int(use_path),
            path_mode=path_mode,
        )
    )
    run, pid = folder / "run", folder / "run" / "k.pid"
    command = [*prefix, "kamailio", "-DD", "-E", "-f", str(config), "-m", "32", "-M", "8", "-P", str(pid)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "-Y", str(run), "-w", str(run)], stdout=log, stderr=log)
    started = Kamailio(folder, process)
    try:
        deadline = time.monotonic() + 20
        while not pid.exists():
            assert process.poll() is None, started.log
            assert time.monotonic() < deadline, started.log
            time.sleep(0.02)
        time.sleep(0.3)  # its children begin to read a moment after the file is there
        yield started
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        shutil.rmtree(folder, ignore_errors=True)
