"""Browsers in which a user has logged in before, by a signed cookie: guesses by others never lock those out.

Failed logins are counted by user and address. Behind one address (a proxy, a NAT) stand all the desks of a site and
whoever guesses there, and the login is most wanted while a 911 call is on. Who brings the cookie of an earlier login
has tries of its own, whatever others do. It opens nothing: the password is asked for all the same.
"""

import hmac
import secrets
import time
from hashlib import sha256
from ipaddress import IPv6Address, ip_address

from fastapi.responses import Response

from router.console.pages import Page, set_cookie
from router.notices.links import secrets_of

VALID_SECONDS = 180 * 86_400
_PURPOSE = "browser known to"


def mark_known(page: Page, response: Response, username: str) -> None:
    """Have the browser show from now on that this user has logged in with it."""
    text = f"{secrets.token_urlsafe(12)}.{int(time.time()) + VALID_SECONDS:x}"
    signed = f"{text}.{_signature(_secrets(page)[0], text, username).decode()}"
    set_cookie(page.console, response, page.console.known_cookie, signed, VALID_SECONDS)


def known_browser(page: Page, username: str) -> str:
    """What names this browser where the user has logged in with it; empty where it is not known."""
    given = page.request.cookies.get(page.console.known_cookie, "")
    text, _, signature = given.rpartition(".")
    name, _, until = text.partition(".")
    try:
        is_over = len(given) > 200 or int(until, 16) < time.time()
    except ValueError:
        return ""
    good = [hmac.compare_digest(_signature(one, text, username), _bytes(signature)) for one in _secrets(page)]
    return name if any(good) and not is_over else ""


def wait_for_login(page: Page, username: str) -> float:
    """How many seconds until a login of this user may be tried here; 0 where it may at once."""
    rates, browser = page.console.rates, known_browser(page, username)
    if browser:
        return rates.login.wait(f"browser {browser}")
    address = network_of(page.address)
    return max(
        rates.login.wait(f"{address} {username}"), rates.login_address.wait(address), rates.login_user.wait(username)
    )


def note_failed_login(page: Page, username: str) -> None:
    """Count a failed login."""
    rates, browser = page.console.rates, known_browser(page, username)
    if browser:
        rates.login.take(f"browser {browser}")
        return
    address = network_of(page.address)
    rates.login.take(f"{address} {username}")
    rates.login_address.take(address)
    rates.login_user.take(username)


def note_login(page: Page, username: str) -> None:
    """Forget the failed ones of this user here."""
    browser = known_browser(page, username)
    page.console.rates.login.forget(f"browser {browser}" if browser else f"{network_of(page.address)} {username}")


def network_of(address: str) -> str:
    """What counts as one place: an IPv4 address, or the /64 of an IPv6 address, which one host has for itself."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or f"{IPv6Address(int(found) >> 64 << 64)}/64")
    return str(found)


def _secrets(page: Page) -> tuple[bytes, ...]:
    return secrets_of(page.console.state_directory, page.console.config.node)


def _signature(secret: bytes, text: str, username: str) -> bytes:
    signed = _bytes(f"{_PURPOSE}\n{username}\n{text}")
    return hmac.new(secret, signed, sha256).hexdigest()[:32].encode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
