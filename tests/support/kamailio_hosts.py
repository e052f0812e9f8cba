"""Kamailio in front of the router as the PBX, and behind it as the E911 provider's border controller.

Every message is judged by Kamailio's own parser on its way: its `sanity` module answers 400 to what it finds wrong,
and the provider answers 424 to a 911 call whose location it cannot find, part by part, in the multipart body.
"""

from pathlib import Path

from tests.support.kamailio_process import KamailioProcess
from tests.support.ports import Endpoint

_IN_DIALOG = """
    if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (!sanity_check()) { xlog("L_ALERT", "INSANE $rm $ru\\n"); exit; }
    xlog("L_ALERT", "RX $rm $ru by $pr:$si:$sp\\n");
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if (!is_method("ACK")) t_check_trans();
    if (has_totag()) {
        if (loose_route()) { t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
        xlog("L_ALERT", "LOST $rm $ru\\n");
        sl_send_reply("404", "Not here"); exit;
    }
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    remove_hf("Route");
"""

_PBX = """
request_route {
    %(in_dialog)s
    if (!is_method("INVITE")) { sl_send_reply("405", "Method Not Allowed"); exit; }
    record_route();
    # Whatever the phone says of itself, the PBX knows which extension it is.
    remove_hf("P-Asserted-Identity");
    append_hf("P-Asserted-Identity: <sip:%(extension)s@pbx.example.com>\\r\\n");
    $du = "sip:%(router)s;transport=%(transport)s";
    if (!t_relay()) sl_reply_error();
}
onreply_route { xlog("L_ALERT", "REPLY $rs $rm\\n"); }
"""

_PROVIDER = """
request_route {
    %(in_dialog)s
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


def pbx(folder: Path, *, at: Endpoint, router: Endpoint, extension: str, transport: str = "udp") -> KamailioProcess:
    """A PBX: every call of its phones goes to the router, asserted (RFC 3325) to come from `extension`."""
    keys = {"in_dialog": _IN_DIALOG, "router": router, "extension": extension, "transport": transport}
    return KamailioProcess(folder, at, _PBX % keys)


def provider(folder: Path, *, at: Endpoint, psap: Endpoint) -> KamailioProcess:
    """An E911 provider: reads the location (lines `911 …` and `PRIORITY …` in its log), hands the PSAP plain SDP."""
    return KamailioProcess(folder, at, _PROVIDER % {"in_dialog": _IN_DIALOG, "psap": psap})
