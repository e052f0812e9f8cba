"""Kamailio as somebody else's border controller: TLS on one side, UDP on the other; it verifies certificates."""

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.support.certificates import Authority, Pair
from tests.support.ports import Endpoint

_MODULES = "/usr/lib/x86_64-linux-gnu/kamailio/modules/"
_CONFIG = """#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
enable_tls=yes
auto_aliases=no
dns=no
rev_dns=no
tcp_source_ipv4={tls.address}
listen=udp:{udp}
listen=tls:{tls}
mpath="{modules}"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "tls.so"
modparam("rr", "enable_double_rr", 1)
modparam("tls", "config", "{folder}/tls.cfg")
request_route {{
    if (!mf_process_maxfwd_header("70")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    xlog("L_ALERT", "RX $rm $ru by $pr:$si:$sp $tls_version $tls_cipher_info $tls_peer_subject_cn\\n");
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (!is_method("ACK")) t_check_trans();
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        sl_send_reply("404", "Not here"); exit;
    }}
    remove_hf("Route");
    record_route();
    if ($pr == "tls") {{ $du = "sip:{inner}"; }} else {{ $du = "sip:{outer};transport=tls"; }}
    if (!t_relay()) sl_reply_error();
}}
"""
_TLS = """[server:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
private_key = {key}
certificate = {certificate}
ca_list = {ca}
[client:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
private_key = {key}
certificate = {certificate}
ca_list = {ca}
"""


class KamailioTls:
    """What comes to it by TLS goes to `inner` by UDP; what comes by UDP goes to `outer` by TLS. A context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        udp: Endpoint,
        tls: Endpoint,
        inner: Endpoint,
        outer: Endpoint,
        authority: Authority,
        pair: Pair,
    ) -> None:
        assert shutil.which("kamailio"), "no kamailio on the PATH (package kamailio)"
        self.folder = folder
        (folder / "run").mkdir(parents=True)
        (folder / "k.cfg").write_text(
            _CONFIG.format(udp=udp, tls=tls, inner=inner, outer=outer, folder=folder, modules=_MODULES)
        )
        (folder / "tls.cfg").write_text(
            _TLS.format(key=pair.key, certificate=pair.certificate, ca=authority.certificate)
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text(errors="replace")

    def __enter__(self) -> "KamailioTls":
        run, pid = self.folder / "run", self.folder / "run" / "k.pid"
        command = ["kamailio", "-DD", "-E", "-f", str(self.folder / "k.cfg"), "-m", "32", "-M", "8", "-P", str(pid)]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen([*command, "-Y", str(run), "-w", str(run)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not pid.exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        time.sleep(0.3)  # its children begin to read a moment after the file is there
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
