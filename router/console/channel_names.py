"""A channel's URL as people may see it: which way and where to, without user names, passwords and tokens."""

from urllib.parse import urlsplit

from router.notices.channel_identity import WITH_HOST


def channel_name(url: str) -> str:
    """`mailto://mail.example.com`, `sip:100@10.0.0.10`: never what is secret in it.

    Many services carry their token where others have a host, so a host is shown only where it is one for sure.
    """
    scheme, _, rest = url.partition(":")
    scheme = scheme.strip().lower()
    if scheme in ("sip", "sips"):
        address = rest.partition("?")[0].partition(";")[0]
        user, at, host = address.rpartition("@")
        return f"{scheme}:{user.partition(':')[0]}{at}{host}"
    if scheme not in WITH_HOST:
        return f"{scheme}://…"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{scheme}://…"
    return f"{scheme}://{host}{f':{port}' if port else ''}"
