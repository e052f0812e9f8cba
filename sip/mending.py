"""Mistakes that a proxy may pass over but must not pass on (RFC 4475 sections 3.1.2.11 and 3.1.2.15).

All else that is odd and harmless leaves as it came.
"""

from collections.abc import Sequence

from sip.message import Edits, Request


def mended(request: Request) -> Request:
    """The request without a header part in its Request-URI, and with quotes around display names that hold a comma.

    The same request where there is nothing to mend. A header part never becomes header fields.
    """
    uri = request.uri
    if b"?" in uri:
        uri = _without_header_part(uri)
    replace: dict[str, Sequence[bytes]] = {}
    for key in ("from", "to"):
        index = request._first.get(key)
        if index is not None and b"," in request.fields[index][1]:
            line = request.fields[index][1]
            quoted = _with_quotes(line)
            if quoted != line:
                replace[key] = (quoted,)
    if not replace and uri == request.uri:
        return request
    return request.edited(Edits(uri=uri, replace=replace))


def _without_header_part(uri: bytes) -> bytes:
    """A SIP URI up to the question mark after its host; a user part may hold one of its own."""
    if uri[:4].lower() not in (b"sip:", b"sips"):
        return uri
    question = uri.find(b"?", uri.rfind(b"@") + 1)
    return uri if question < 0 else uri[:question]


def _with_quotes(line: bytes) -> bytes:
    """A From or To line whose display name, where it has a comma and no quotes, stands in quotes."""
    name, _, value = line.partition(b":")
    display, bracket, rest = value.partition(b"<")
    if not bracket or b"," not in display or b'"' in display:
        return line
    text = b" ".join(display.split()).replace(b"\\", b"\\\\")
    return b'%b: "%b" <%b' % (name, text, rest)
