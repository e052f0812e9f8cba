"""What Apprise's HTTP channels are given by us: redirects that would lose the notice are not followed, and what the
receiver answered is kept.

Its plugins post by `requests`, which repeats a POST that was answered with 301 or 302 as a GET, without the notice: a
page that wants a login, or a proxy that sends http to https, says 200 to that.
"""

import threading
from typing import Any

import requests
from requests import PreparedRequest, Response

TURNS_TO_GET = frozenset({301, 302})
"""Redirects after which `requests` sends a GET in place of a POST (RFC 9110 section 15.4 allows it). A 303 says that
the POST was taken; 307 and 308 have it repeated as it was."""


class _OfThread(threading.local):
    words: str = ""
    status: int = 0


_of_thread = _OfThread()
_send = requests.Session.send
_redirect_target = requests.Session.get_redirect_target


def _keeping_words(session: requests.Session, request: PreparedRequest, **options: Any) -> Response:
    response = _send(session, request, **options)
    _of_thread.words = words_of(response.status_code, response.reason, response.headers.get("location", ""))
    _of_thread.status = response.status_code
    return response


def _with_the_notice(session: requests.Session, response: Response) -> str | None:
    method = response.request.method if response.request is not None else ""
    if response.status_code in TURNS_TO_GET and method not in ("GET", "HEAD"):
        return None
    return _redirect_target(session, response)


def keep_answers() -> None:
    """Have `requests` of this process do so. Once more changes nothing."""
    sessions: Any = requests.Session
    sessions.send = _keeping_words
    sessions.get_redirect_target = _with_the_notice


def forget() -> None:
    """This thread is about to send."""
    _of_thread.words, _of_thread.status = "", 0


def status() -> int:
    """The status of that answer; 0 where nothing came."""
    return _of_thread.status


def words() -> str:
    """What the receiver answered to this thread last; empty where nothing came."""
    return _of_thread.words


def words_of(status: int, reason: str | None, location: str = "") -> str:
    """An answer in words; where it sends elsewhere, with the remedy."""
    said = f"HTTP {status} {reason or ''}".strip()
    if status in TURNS_TO_GET and location:
        return f"{said}: moved to {location[:200]}; write that address in the channel's URL"
    return said
