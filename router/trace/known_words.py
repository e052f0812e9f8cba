"""Words in messages that name no person and no place: phrases that standards have, programs that are sold.

Reason phrases, texts of Reason and Warning, User-Agent and Server may hold anything: a phone calls itself "Ana's
phone", a PBX answers "Ana is at lunch". What is listed here may be shown where names are hidden; the rest may not.
"""

import re
from http import HTTPStatus

_SIP_PHRASES = """\
Trying|Ringing|Call Is Being Forwarded|Queued|Session Progress|Early Dialog Terminated|OK|Accepted|\
No Notification|Multiple Choices|Moved Permanently|Moved Temporarily|Use Proxy|Alternative Service|\
Request Entity Too Large|Request-URI Too Long|Unsupported URI Scheme|Unknown Resource-Priority|Bad Extension|\
Extension Required|Session Interval Too Small|Interval Too Brief|Bad Location Information|Bad Alert Message|\
Use Identity Header|Provide Referrer Identity|Flow Failed|Anonymity Disallowed|Bad Identity-Info|\
Unsupported Certificate|Unsupported Credential|Invalid Identity Header|First Hop Lacks Outbound Support|\
Max-Breadth Exceeded|Bad Info Package|Consent Needed|Temporarily Unavailable|Call/Transaction Does Not Exist|\
Loop Detected|Too Many Hops|Address Incomplete|Ambiguous|Busy Here|Request Terminated|Not Acceptable Here|\
Bad Event|Request Pending|Undecipherable|Security Agreement Required|Server Internal Error|Server Time-out|\
Version Not Supported|Message Too Large|Push Notification Service Not Supported|Precondition Failure|\
Busy Everywhere|Decline|Declined|Does Not Exist Anywhere|Unwanted|Rejected|User Busy|Request Timeout"""
"""RFC 3261 and its extensions, as IANA lists them; those HTTP has too come from there."""
_CAUSES = """\
Unallocated (unassigned) number|No route to destination|Normal call clearing|Normal Clearing|User busy|\
No user responding|No answer from user|Subscriber absent|Call rejected|Number changed|Destination out of order|\
Invalid number format|Facility rejected|Normal, unspecified|No circuit/channel available|Network out of order|\
Temporary failure|Switching equipment congestion|Requested circuit/channel not available|\
Bearer capability not authorized|Interworking|Recovery on timer expiry|Interworking, unspecified|Terminated|\
Call completed elsewhere|Incompatible destination|Protocol error|Incompatible media format|\
Insufficient bandwidth"""
"""ITU-T Q.850, as gateways write it."""
_PHRASES = frozenset(
    phrase.lower().encode()
    for phrase in (*(status.phrase for status in HTTPStatus), *_SIP_PHRASES.split("|"), *_CAUSES.split("|"))
)
_PRODUCTS = """\
3CX(?:Phone(?:System)?)? Aastra Acrobits Adtran Alcatel(?:-Lucent)? Algo Asterisk AudioCodes(?:GW)? Avaya \
baresip belle-sip Blink Bria BroadWorks Cisco CiscoSystemsSIP-GW CounterPath drachtio edge911 Ekiga Ericsson \
eXosip Fanvil FPBX FreePBX FreeSWITCH(?:-mod_sofia)? Genesys Gigaset Grandstream Groundwire Htek Huawei IPOffice \
Jitsi JsSIP Kamailio Linksys Linphone(?:Android|iOS|c|-Desktop)? Metaswitch MicroSIP Microsoft Mitel Nortel \
Obihai OpenSER OpenSIPS Oracle Panasonic Patton PJSIP PJSUA PolyEdge Polycom(?:VVX|SoundPointIP|SoundStationIP)? \
Poly PortaSIP pyVoIP Ribbon Sangoma Siemens SIPML5 SIPp sipsak Snom Sofia-SIP Sonus Spectralink Tandberg Teams \
Twilio Twinkle Unify VTech Wildix X-Lite Yate Yealink Zoiper Zultys ZyXEL"""
_MODEL = (
    r"(?:SIP-[TWC]P?|CP-?|VVX[-_]?|SPIP[-_]?|SSIP[-_]?|SPA-?|GXP-?|GRP-?|GXV-?|HT-?|CCX[-_]?|Mediant[ ]?|MP-?|OBi)"
    r"\d{2,4}[A-Z]{0,3}"
)
_VERSION = r"v?\d{1,5}(?:\.\d{1,5}){1,5}(?:[-~+.](?:rc|beta|alpha|git|pre|dev|release)[.\d]*)?"
_PROGRAM = re.compile(
    rf"""
      (?<![^\s/(;,_-]) (?: {"|".join(_PRODUCTS.split())} ) (?![A-Za-z0-9])
      (?: [\s/_-]+ (?: {_MODEL} | PBX | SBC | SIP | Proxy | Phone | {_VERSION} ) (?![\w.]) )*
    """.encode(),
    re.VERBOSE | re.IGNORECASE,
)


def is_known_phrase(words: bytes) -> bool:
    """True for a phrase of a standard, in whatever case, with space around it."""
    return words.strip().lower() in _PHRASES


def known_programs(text: bytes) -> list[tuple[int, int]]:
    """Where known programs, with model and version, stand in a User-Agent or Server value: (from, to) in order.

    A version counts only behind its product: another number may be anybody's.
    """
    return [match.span() for match in _PROGRAM.finditer(text)]
