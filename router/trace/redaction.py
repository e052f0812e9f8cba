"""SIP messages without numbers, names and places, byte for byte as long as they came.

What is hidden becomes `x`, one for each byte, so that lengths stay true and every tool still reads the message. The
rule is to show what is known to be harmless: protocol fields (Via, Call-ID, CSeq, ...), hosts, ports, tags, codecs,
known programs and their versions, reason phrases that standards have, the structure of bodies. Words that anybody can
choose are hidden wherever they stand. Emergency and test numbers stay, for they are what is looked for. Kept as they
are although they may hold a number: Call-ID, Content-ID and Via, without which messages and parts cannot be told
apart, and host names.
"""

import re
from functools import lru_cache

from e911.numbers import CallKind, EmergencyNumbers, classify
from router.trace.known_words import is_known_phrase, known_programs

_SHOWN = frozenset(
    b"via v call-id i cseq max-forwards max-breadth content-length l content-encoding e content-id "
    b"content-transfer-encoding content-language mime-version expires min-expires session-expires x min-se rseq rack "
    b"allow allow-events u supported k require proxy-require unsupported accept-encoding accept-language "
    b"request-disposition d event o date timestamp privacy geolocation-routing resource-priority "
    b"accept-resource-priority p-charging-vector p-early-media www-authenticate proxy-authenticate "
    b"authentication-info replaces target-dialog in-reply-to join security-client security-server security-verify "
    b"sip-etag sip-if-match".split()
)
"""Fields (and their compact forms) that say nothing of people and places: shown as they are."""
_BEGINS_WITH_A_WORD = frozenset(
    b"content-type c content-disposition accept subscription-state retry-after reason warning geolocation-error "
    b"authorization proxy-authorization".split()
)
"""Fields that begin with a word of a protocol: that is shown, and what follows it as in any field."""
_PROGRAMS = frozenset({b"user-agent", b"server"})
_HIDDEN = frozenset(
    b"identity y p-access-network-info cellular-network-info user-to-user subject s organization geolocation-info "
    b"p-charge-info".split()
)
"""Fields whose whole value is about people and places."""

_FIELD = re.compile(rb"([^\r\n:]*:)([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)|[^\r\n]+")
_PARTS = re.compile(
    rb"""
      (?P<shown> ;\s*(?:tag|expires|cause|index|counter|q|reg-id|t|call|transport|lr|ob|user|rport|received|maddr|ttl
                     |comp|purpose|screen|party|phone-context|method|charset|handling|reason|duration|retry-after)
                  \s*=\s*[^;,\s>"]+
               | ;\s*[\w.+-]+(?=\s*=) | ;\s*(?:lr|ob|gr|rport)(?![^\s;,>])
               | (?<![^\s,])(?:algorithm|qop|nc|stale)\s*=\s*[^;,\s>"]+
               | (?<![^\s,])(?:username|realm|nonce|uri|response|cnonce|opaque)(?=\s*=)
               | cid:[^\s>;,]+ | urn:(?:service|emergency|nena):[^\s>;,]+ | SIP/\d\.\d\s*\Z
               | (?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])(?::\d{1,5}\b)?
               | \[[0-9A-Fa-f:.]+\](?::\d{1,5}\b)?
               | (?:(?<=@)|(?<=sip:)|(?<=sips:))(?=[\w.-]*[a-z])[\w.-]+(?::\d{1,5}\b)?(?![^\s;,>?:"]) )
    | (?P<scheme> (?:sips?|pres|im|mailto|xmpp): ) (?: (?P<user> [^@\s<>"]{1,512} ) (?=@) )?
    | (?P<tel> tel: ) (?P<number> [^;>\s,"]+ )
    | (?P<web> https?://[^/\s>"]+ ) (?P<path> /[^\s>"]* )
    | "(?P<quoted> (?:[^"\\]|\\.)* )(?P<end> "? )
    | (?P<digits> \+?\d[\d().-]*\d )
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_FIRST_WORD = re.compile(
    rb"""\s*(?: (?:SIP|Q\.850|STIR|preemption|emergency|FreeSWITCH|active|pending|terminated|Digest|Basic|Bearer
               |session|render|inline|attachment|form-data|by-reference|recording-session) (?![^\s;])
             | (?:application|audio|image|message|multipart|text|video|model)/[\w.+*-]+ (?![^\s;,])
             | \d{3}[ ][\w-]+(?:\.[\w-]+)+(?::\d{1,5})? (?![^\s])
             | \d{1,6} (?![^\s;(]) )""",
    re.VERBOSE | re.IGNORECASE,
)
_WITHOUT_WORDS = bytes(ord("x") if bytes([code]).isalnum() or code > 0x7F else code for code in range(256))
_STATUS_LINE = re.compile(rb"SIP/\d\.\d \d{3}", re.IGNORECASE)
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_CONTENT_TYPE = re.compile(rb"^(?:content-type|c)[ \t]*:[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)", re.I | re.M)
_BOUNDARY = re.compile(rb';\s*boundary\s*=\s*(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
_TAG = re.compile(rb"(</?[A-Za-z_?][^<>]*>)")
_ATTRIBUTE = re.compile(rb"""([\w:.-]+)(\s*=\s*)("[^"]*"|'[^']*')""")
_SDP_LINE = re.compile(rb"^([a-z])=([^\r\n]*)", re.MULTILINE)
_SDP_KEY = re.compile(rb"^(crypto:.*?inline:|ice-pwd:)(.*)$", re.DOTALL)
_MOST_PARTS_WITHIN_PARTS = 4


class Redaction:
    """Hides numbers, names and places in SIP messages; `numbers` are those that stay to be seen."""

    def __init__(self, numbers: EmergencyNumbers) -> None:
        @lru_cache(maxsize=4096)
        def stays(user: bytes) -> bool:
            return classify(f"sip:{user.decode('latin-1')}@host", numbers) is not CallKind.ORDINARY

        self._stays = stays
        # The same lines come in every message of a call.
        self._text = lru_cache(maxsize=8192)(self._text_hidden)

    def message(self, data: bytes) -> bytes:
        """The message with what is private hidden; as many bytes, whatever it is. Never raises."""
        end = _HEADER_END.search(data)
        head, rest = (data, b"") if end is None else (data[: end.end()], data[end.end() :])
        start_line, newline, fields = head.partition(b"\n")
        return self._start_line(start_line) + newline + self._fields(fields) + self._body(head, rest, 0)

    def _start_line(self, line: bytes) -> bytes:
        status = _STATUS_LINE.match(line)
        if status:
            phrase = line[status.end() :]
            return status[0] + (phrase if is_known_phrase(phrase) else self._text(phrase))
        method, space, rest = line.partition(b" ")
        if not space or not method.isupper():
            return self._text(line)
        return method + space + self._text(rest)

    def _fields(self, fields: bytes) -> bytes:
        return _FIELD.sub(self._field, fields)

    def _field(self, match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            return self._text(match[0])
        name = match[1][:-1].strip().lower()
        if name in _SHOWN:
            return match[0]
        if name in _BEGINS_WITH_A_WORD and (first := _FIRST_WORD.match(match[2])):
            return match[1] + first[0] + self._after_word(name, match[2][first.end() :])
        if name in _PROGRAMS:
            return match[1] + _apart_from(known_programs(match[2]), match[2])
        if name in _HIDDEN:
            return match[1] + _hide(match[2])
        return match[1] + self._text(match[2])

    def _after_word(self, name: bytes, rest: bytes) -> bytes:
        """The boundary stays: it stands in the body, too, whose parts no tool finds without it."""
        boundary = _BOUNDARY.search(rest) if name in (b"content-type", b"c") else None
        if boundary is None:
            return self._text(rest)
        return self._text(rest[: boundary.start()]) + boundary[0] + self._text(rest[boundary.end() :])

    def _text_hidden(self, text: bytes) -> bytes:
        """Only the parts that are known for what they are stay; what stands between them is anybody's words."""
        shown, at = [], 0
        for match in _PARTS.finditer(text):
            shown += [_hide(text[at : match.start()]), self._part(match)]
            at = match.end()
        return b"".join([*shown, _hide(text[at:])])

    def _part(self, match: re.Match[bytes]) -> bytes:
        if match["scheme"]:
            return match["scheme"] + self._number(match["user"] or b"")
        if match["tel"]:
            return match["tel"] + self._number(match["number"])
        if match["web"]:
            return match["web"] + _hide(match["path"])
        if match["quoted"] is not None:
            if is_known_phrase(match["quoted"]):
                return match[0]
            return b'"' + _hide(match["quoted"]) + match["end"]
        digits = match["digits"]
        if digits and not self._stays(digits):
            return _hide(digits)
        return match[0]

    def _number(self, user: bytes) -> bytes:
        if not user or self._stays(user):
            return user
        plus = user[:1] if user[:1] == b"+" else b""
        return plus + b"x" * (len(user) - len(plus))

    # ---- bodies ----

    def _body(self, head: bytes, body: bytes, depth: int) -> bytes:
        if not body:
            return body
        found = _CONTENT_TYPE.search(head)
        value = found[1] if found else b""
        kind = value.partition(b";")[0].strip().lower()
        if kind.startswith(b"multipart/") and depth < _MOST_PARTS_WITHIN_PARTS:
            boundary = _BOUNDARY.search(value)
            if boundary:
                return self._multipart(b"--" + (boundary[1] or boundary[2]), body, depth)
        if kind == b"application/sdp":
            return _SDP_LINE.sub(_sdp_line, body)
        if kind.endswith((b"+xml", b"/xml")):
            return b"".join(_tag(piece) if odd % 2 else _hide(piece) for odd, piece in enumerate(_TAG.split(body)))
        return _hide(body)

    def _multipart(self, delimiter: bytes, body: bytes, depth: int) -> bytes:
        mark = re.escape(delimiter)
        pieces = re.split(rb"(%b(?<=\n%b)(?:--)?[ \t]*\r?(?:\n|\Z))" % (mark, mark), b"\n" + body)
        # Odd ones are delimiters; before the first and after the closing one stands what nobody reads.
        shown = [_hide(pieces[0][1:])]
        for position in range(1, len(pieces), 2):
            line, part = pieces[position], pieces[position + 1]
            if line.startswith(delimiter + b"--"):
                shown += [line, _hide(part)]
                continue
            blank = re.match(rb"\r?\n", part)  # a part without fields of its own
            end = blank or _HEADER_END.search(part)
            at = end.end() if end else 0
            shown += [line, self._fields(part[:at]), self._body(part[:at], part[at:], depth + 1)]
        return b"".join(shown)


def _hide(text: bytes) -> bytes:
    return text.translate(_WITHOUT_WORDS)


def _apart_from(shown: list[tuple[int, int]], text: bytes) -> bytes:
    """The text hidden but for these stretches of it, which are in order."""
    pieces, at = [], 0
    for begin, end in shown:
        pieces += [_hide(text[at:begin]), text[begin:end]]
        at = end
    return b"".join([*pieces, _hide(text[at:])])


def _sdp_line(match: re.Match[bytes]) -> bytes:
    kind, value = match[1], match[2]
    if kind == b"o":
        user, space, rest = value.partition(b" ")
        value = _hide(user) + space + rest
    elif kind in b"siuepk":
        value = _hide(value)
    elif kind == b"a" and (key := _SDP_KEY.match(value)):
        value = key[1] + _hide(key[2])  # who has the key can listen to the call
    return kind + b"=" + value


@lru_cache(maxsize=1024)
def _tag(tag: bytes) -> bytes:
    """A tag of XML: element and attribute names and namespaces stay, values of attributes do not."""
    if tag.startswith(b"<?"):
        return tag

    def value(match: re.Match[bytes]) -> bytes:
        shown = match[1].startswith(b"xmlns") or match[1] in (b"srsName", b"uom", b"version", b"encoding")
        return match[0] if shown else match[1] + match[2] + match[3][:1] + _hide(match[3][1:-1]) + match[3][-1:]

    return _ATTRIBUTE.sub(value, tag)
