"""Kamailio as a provider that asks who we are, by its auth module; behind it any peer that takes the calls."""

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.support.ports import Endpoint

_CONFIG = """#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
listen=udp:{at}
listen=tcp:{at}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
{load}
modparam("auth", "algorithm", "{algorithm}")
modparam("auth", "nonce_count", 1)
modparam("auth", "qop", "auth")
modparam("auth", "nonce_expire", 30)
request_route {{
    if (!mf_process_maxfwd_header("70")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (!is_method("ACK")) t_check_trans();
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        sl_send_reply("404", "Not here"); exit;
    }}
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    remove_hf("Route");
    if ($au != "{username}" || !pv_{kind}_authenticate("{realm}", "{password}", "0")) {{
        {kind}_challenge("{realm}", "1");
        exit;
    }}
    consume_credentials();
    record_route();
    $du = "sip:{behind}";
    if (!t_relay()) sl_reply_error();
}}
"""
_LOADED = ("tm", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "auth")


class AuthenticatingKamailio:
    """A running Kamailio; a context manager. kind: `www` (401) or `proxy` (407)."""

    def __init__(
        self,
        folder: Path,
        *,
        at: Endpoint,
        behind: Endpoint,
        username: str,
        password: str,
        kind: str = "www",
        algorithm: str = "MD5",
        realm: str = "ers.example.com",
    ) -> None:
        assert shutil.which("kamailio"), "no kamailio on the PATH (package kamailio)"
        self.folder = folder
        (folder / "run").mkdir(parents=True)
        self._config = folder / "kamailio.cfg"
        self._config.write_text(
            _CONFIG.format(
                at=at,
                behind=behind,
                username=username,
                password=password,
                kind=kind,
                algorithm=algorithm,
                realm=realm,
                load="\n".join(f'loadmodule "{name}.so"' for name in _LOADED),
            )
        )

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text(errors="replace")

    def __enter__(self) -> "AuthenticatingKamailio":
        run, pid = self.folder / "run", self.folder / "run" / "pid"
        command = ["kamailio", "-DD", "-E", "-f", str(self._config), "-m", "32", "-M", "8"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-P", str(pid), "-Y", str(run), "-w", str(run)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while not pid.exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        time.sleep(0.3)  # its children begin to read a moment after the file is there
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
