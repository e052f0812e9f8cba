"""Phones other people wrote, as they are: pyVoIP and aiosip, which do not follow their dialogs.

pyVoIP: ACK with a To tag of its own, the INVITE's branch, no Route, To's URI; BYE without Route. aiosip: ACK says
`CSeq: 1 INVITE`, ACK and BYE go to the URI that was dialled without Route; one more ACK for the answer to its BYE.
Run as: python -m tests.support.careless_phones pyvoip|aiosip ROUTER PORT OWN_ADDRESS OWN_PORT USER NUMBER
Prints `answered` once the call is up, hangs up when a line comes on standard input, then prints `ended`.
"""

import asyncio
import collections
import collections.abc
import importlib
import inspect
import os
import sys
import time
import types
import warnings
from typing import Any

warnings.simplefilter("ignore")


def say(word: str) -> None:
    """One line for the test."""
    print(word, flush=True)


def pyvoip(router: str, port: int, own: str, own_port: int, user: str, number: str) -> None:
    """pyVoIP, but for REGISTER: there is no registrar."""
    importlib.import_module("pyVoIP.VoIP")  # before pyVoIP.SIP: the two import each other, and only this order works
    from pyVoIP.SIP import SIPClient
    from pyVoIP.VoIP import CallState, PhoneStatus, VoIPPhone

    class NoRegister(SIPClient):
        def register(self) -> bool:
            self.phone._status = PhoneStatus.REGISTERED
            return True

    phone = VoIPPhone(
        router, port, user, "unused", myIP=own, sipPort=own_port, rtpPortLow=own_port + 10, rtpPortHigh=own_port + 30,
        callCallback=lambda call: None,
    )  # fmt: skip
    phone.sip = NoRegister(
        router, port, user, "unused", phone=phone, myIP=own, myPort=own_port, callCallback=phone.callback,
        fatalCallback=phone.fatal,
    )  # fmt: skip
    phone.start()
    call = phone.call(number)
    end = time.monotonic() + 60
    while call.state is not CallState.ANSWERED and time.monotonic() < end:
        time.sleep(0.02)
    if call.state is not CallState.ANSWERED:
        return
    say("answered")
    sys.stdin.readline()
    call.hangup()
    time.sleep(0.3)
    say("ended")


def make_importable() -> None:
    """What aiosip 0.2.0 needs of a Python that has moved on: asyncio.coroutine and collections.MutableMapping."""

    def coroutine(function: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return function
        if inspect.isgeneratorfunction(function):
            return types.coroutine(function)

        async def wrapped(*arguments: Any, **keywords: Any) -> Any:
            result = function(*arguments, **keywords)
            return await result if inspect.isawaitable(result) else result

        return wrapped

    if not hasattr(asyncio, "coroutine"):
        asyncio.coroutine = coroutine  # type: ignore[attr-defined]  # gone since Python 3.11
    if not hasattr(collections, "MutableMapping"):
        collections.MutableMapping = collections.abc.MutableMapping  # type: ignore[attr-defined]


async def aiosip(router: str, port: int, own: str, own_port: int, user: str, number: str) -> None:
    """aiosip, through its own Call."""
    make_importable()
    library = importlib.import_module("aiosip")
    from multidict import CIMultiDict

    app = library.Application(loop=asyncio.get_running_loop())
    dialog = await app.start_dialog(
        from_uri=f"sip:{user}@{own}:{own_port}",
        to_uri=f"sip:{number}@{router}:{port}",
        local_addr=(own, own_port),
        remote_addr=(router, port),
    )
    sdp = f"v=0\r\no=- 1 1 IN IP4 {own}\r\ns=-\r\nc=IN IP4 {own}\r\nt=0 0\r\nm=audio {own_port + 10} RTP/AVP 0\r\n"
    headers = CIMultiDict({"Content-Type": "application/sdp"})
    call = await asyncio.wait_for(library.Call.invite(dialog, headers=headers, sdp=sdp), 60)
    say("answered")
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.wait_for(call.close(), 60)
    say("ended")


def main(which: str, router: str, port: str, own: str, own_port: str, user: str, number: str) -> None:
    """One call."""
    if which == "pyvoip":
        pyvoip(router, int(port), own, int(own_port), user, number)
    else:
        asyncio.run(aiosip(router, int(port), own, int(own_port), user, number))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if sys.exception() is None:
            os._exit(0)  # pyVoIP's threads do not end by themselves
