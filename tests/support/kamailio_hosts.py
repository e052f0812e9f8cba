"""The hosts that Kamailio plays around the router: PBX in front, provider and its border, registrar outside.

Every message is judged by Kamailio's own parser on its way. PBX and provider answer 400 to what its `sanity` module
finds wrong, and the provider 424 to a 911 call whose location it cannot find, part by part, in the multipart body.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.support.certificates import Authority, Pair
from tests.support.kamailio import Kamailio
from tests.support.ports import Endpoint

_BEGIN = """
    if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
    %(sanity)s
    xlog("L_ALERT", "RX $rm $ru by $pr:$si:$sp %(shown)s\\n");
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if (!is_method("ACK")) t_check_trans();
    if (has_totag()) {
        if (loose_route()) { t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
        xlog("L_ALERT", "LOST $rm $ru\\n");
        sl_send_reply("404", "Not here"); exit;
    }
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
"""
_SANE = 'if (!sanity_check()) { xlog("L_ALERT", "INSANE $rm $ru\\n"); exit; }'


def _begin(shown: str = "", *, strict: bool = False) -> str:
    """What every proxy does first; it says what came, and `shown` of it."""
    return _BEGIN % {"sanity": _SANE if strict else "", "shown": shown}


_PBX = """
request_route {
    %(begin)s
    remove_hf("Route");
    if (!is_method("INVITE")) { sl_send_reply("405", "Method Not Allowed"); exit; }
    record_route();
    # Whatever the phone says of itself, the PBX knows which extension it is.
    remove_hf("P-Asserted-Identity");
    append_hf("P-Asserted-Identity: <sip:%(extension)s@pbx.example.com>\\r\\n");
    $du = "sip:%(router)s;transport=%(transport)s";
    %(branches)s
    if (!t_relay()) sl_reply_error();
}
onreply_route { xlog("L_ALERT", "REPLY $rs $rm\\n"); }
"""

_OFFICE = """
alias="pbx.example.com"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "gruu_enabled", 0)
modparam("registrar", "outbound_mode", 0)
request_route {
    %(begin)s
    remove_hf("Route");
    if (is_method("REGISTER")) { save("location"); exit; }
    if (!is_method("INVITE")) { sl_send_reply("405", "Method Not Allowed"); exit; }
    record_route();
    if ($rU == "911") {
        remove_hf("P-Asserted-Identity");
        append_hf("P-Asserted-Identity: <sip:$fU@pbx.example.com>\\r\\n");
        $du = "sip:%(router)s";
    } else if ($rU == "%(forwarded)s") {
        append_to_reply("Contact: <sip:+12125550177@203.0.113.99>\\r\\n");
        sl_send_reply("302", "Forwarded"); exit;
    } else if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
    xlog("L_ALERT", "TO $rU by $du priority=$hdr(Priority)\\n");
    if (!t_relay()) sl_reply_error();
}
"""

_PROVIDER = """
request_route {
    %(begin)s
    remove_hf("Route");
    if (!is_method("INVITE")) { sl_send_reply("405", "Method Not Allowed"); exit; }
    record_route();
    if (!has_body("multipart/mixed") || !sdp_with_media("audio")
            || !get_body_part("application/sdp", "$var(sdp)")
            || !get_body_part("application/pidf+xml", "$var(pidf)")
            || !($hdr(Geolocation) =~ "<cid:[^>]+@[^>]+>")
            || !($var(pidf) =~ "<([a-z]+:)?country>US</")) {
        xlog("L_ALERT", "NO LOCATION $hdr(Content-Type) $hdr(Geolocation)\\n");
        sl_send_reply("424", "Bad Location Information"); exit;
    }
    $var(house) = $(var(pidf){re.subst,/.*<[a-z:]*HNO>([^<]*)<.*/\\1/s});
    $var(cid) = $(hdr(Geolocation){re.subst,/.*<cid:([^>]*)>.*/\\1/s});
    $var(named) = "no";
    if ($rb =~ $_s(Content-ID: *<$var(cid)>)) $var(named) = "yes";
    xlog("L_ALERT", "911 asserted=$ai house=$var(house) cid=$var(cid) part-named=$var(named)\\n");
    xlog("L_ALERT", "PRIORITY $hdr(Resource-Priority)\\n");
    set_body("$var(sdp)", "application/sdp");
    $du = "sip:%(psap)s";
    if (!t_relay()) sl_reply_error();
}
"""

_ASKING = """
modparam("auth", "algorithm", "%(algorithm)s")
modparam("auth", "nonce_count", 1)
modparam("auth", "qop", "auth")
modparam("auth", "nonce_expire", 30)
request_route {
    %(begin)s
    remove_hf("Route");
    if ($au != "%(username)s" || !pv_%(kind)s_authenticate("%(realm)s", "%(password)s", "0")) {
        %(kind)s_challenge("%(realm)s", "1");
        exit;
    }
    consume_credentials();
    record_route();
    $du = "sip:%(behind)s";
    if (!t_relay()) sl_reply_error();
}
"""

_REGISTRAR = """
alias="%(domain)s"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "gruu_enabled", 0)
modparam("registrar", "outbound_mode", 0)
modparam("registrar", "use_path", %(use_path)d)
modparam("registrar", "path_mode", %(path_mode)d)
modparam("tm", "failure_reply_mode", 3)
request_route {
    %(begin)s
    if (is_method("REGISTER")) { save("location"); exit; }
    remove_hf("Route");
    if (is_method("INVITE")) record_route();
    if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
    xlog("L_ALERT", "TO $ru by $du route=$hdr(Route)\\n");
    if (!t_relay()) sl_reply_error();
}
"""

_BORDER = """
modparam("rr", "enable_double_rr", 1)
request_route {
    %(begin)s
    remove_hf("Route");
    record_route();
    if ($pr == "tls") { $du = "sip:%(inner)s"; } else { $du = "sip:%(outer)s;transport=tls"; }
    if (!t_relay()) sl_reply_error();
}
"""


def pbx(
    folder: Path,
    *,
    at: Endpoint,
    router: Endpoint,
    extension: str,
    transport: str = "udp",
    also: Sequence[str] = (),
) -> Kamailio:
    """A PBX: every call of its phones goes to the router, asserted (RFC 3325) to come from `extension`.

    also: it forks, and a copy of each call goes to each of these URIs too, by the same way.
    """
    branches = "\n    ".join(f'append_branch("{uri}");' for uri in also)
    keys = {"router": router, "extension": extension, "transport": transport, "branches": branches}
    script = _PBX % {"begin": _begin(strict=True), **keys}
    return Kamailio(folder, script, udp=at, tcp=at, modules=("sanity", "corex"))


def office(folder: Path, *, at: Endpoint, router: Endpoint, forwarded: str = "none") -> Kamailio:
    """A PBX with phones of its own, which register with it: 911 goes to the router, every other call to the phone.
    It says where each goes (lines `TO …`), and answers 302 for the extension `forwarded`."""
    script = _OFFICE % {"begin": _begin(strict=True), "router": router, "forwarded": forwarded}
    return Kamailio(folder, script, udp=at, tcp=at, modules=("sanity", "usrloc", "registrar"))


def provider(folder: Path, *, at: Endpoint, psap: Endpoint) -> Kamailio:
    """An E911 provider: reads the location (lines `911 …` and `PRIORITY …` in its log), hands the PSAP plain SDP."""
    script = _PROVIDER % {"begin": _begin(strict=True), "psap": psap}
    return Kamailio(folder, script, udp=at, tcp=at, modules=("sanity", "sdpops"))


def asking(
    folder: Path,
    *,
    at: Endpoint,
    behind: Endpoint,
    username: str,
    password: str,
    kind: str = "www",
    algorithm: str = "MD5",
    realm: str = "ers.example.com",
) -> Kamailio:
    """A provider that asks who we are, by its auth module, and `behind` takes the calls.

    kind: `www` (401) or `proxy` (407).
    """
    keys = {"behind": behind, "username": username, "password": password, "realm": realm}
    script = _ASKING % {"begin": _begin(), "kind": kind, "algorithm": algorithm, **keys}
    return Kamailio(folder, script, udp=at, tcp=at, modules=("auth",))


def registrar(
    folder: Path, *, at: Endpoint, domain: str, tcp: bool = False, use_path: bool = True, path_mode: int = 2
) -> Kamailio:
    """A hosted platform: registrar and proxy of `domain`. It says by which way it calls a phone (lines `TO …`).

    path_mode 2, its default: REGISTER with a Path is refused where the phone does not say `Supported: path`.
    """
    keys = {"domain": domain, "use_path": use_path, "path_mode": path_mode}
    script = _REGISTRAR % {"begin": _begin("path=$hdr(Path) contact=$hdr(Contact)"), **keys}
    return Kamailio(folder, script, udp=at, tcp=at if tcp else None, modules=("usrloc", "registrar", "path"))


def border(
    folder: Path,
    *,
    udp: Endpoint,
    tls: Endpoint,
    inner: Endpoint,
    outer: Endpoint,
    authority: Authority,
    pair: Pair,
) -> Kamailio:
    """A border controller that verifies certificates: what comes by TLS goes to `inner` by UDP, the rest to `outer`
    by TLS."""
    begin = _begin("$tls_version $tls_cipher_info $tls_peer_subject_cn")
    script = _BORDER % {"begin": begin, "inner": inner, "outer": outer}
    return Kamailio(folder, script, udp=udp, tls=tls, authority=authority, pair=pair)
