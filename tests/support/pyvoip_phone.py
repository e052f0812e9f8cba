"""A pyVoIP phone that dials, sends a tone and says what it heard: a phone of other people, in its own process.

pyVoIP's ACK and BYE break the rules of dialogs; here they are built from the 200 as RFC 3261 section 12.2.1.1 wants.
Run as: python -m tests.support.pyvoip_phone ROUTER PORT OWN_ADDRESS OWN_PORT RTP_PORT USER NUMBER HERTZ SECONDS
Prints one JSON line: {"answered": bool, "heard": [16-bit samples]}.
"""

import hashlib
import importlib
import json
import sys
import time
import uuid
import warnings

warnings.simplefilter("ignore")  # pyVoIP imports audioop
importlib.import_module("pyVoIP.VoIP")  # before pyVoIP.SIP: the two import each other, and only this order works

from pyVoIP.SIP import SIPClient  # noqa: E402
from pyVoIP.VoIP import CallState, PhoneStatus, VoIPPhone  # noqa: E402

from tests.support.tone import tone  # noqa: E402


def fields_of(raw: bytes, name: str) -> list[str]:
    """The values of a field in a raw message."""
    head = raw.decode("utf-8", "replace").split("\r\n\r\n")[0]
    return [
        line.partition(":")[2].strip()
        for line in head.split("\r\n")[1:]
        if line.partition(":")[0].strip().lower() == name
    ]


class RepairedClient(SIPClient):
    """pyVoIP's SIP client without REGISTER, and with an ACK and a BYE that follow the dialog."""

    def register(self) -> bool:
        """There is no registrar: calls go by the router's word alone."""
        self.phone._status = PhoneStatus.REGISTERED
        return True

    def gen_call_id(self) -> str:
        """Unlike the original, not the same for every process."""
        return f"{uuid.uuid4().hex}@{self.myIP}:{self.myPort}"

    def gen_ack(self, request):  # type: ignore[no-untyped-def]  # overrides an untyped method
        return self._in_dialog(request.raw, "ACK", 0)

    def gen_bye(self, request):  # type: ignore[no-untyped-def]  # overrides an untyped method
        return self._in_dialog(self.last_200, "BYE", 1)

    def _in_dialog(self, raw: bytes, method: str, later: int) -> str:
        self.last_200 = raw
        (call_id,) = fields_of(raw, "call-id")
        number = int(fields_of(raw, "cseq")[0].split()[0]) + later
        target = fields_of(raw, "contact")[0].partition("<")[2].partition(">")[0]
        branch = hashlib.sha256(f"{call_id}{number}{method}".encode()).hexdigest()[:24]
        lines = [
            f"{method} {target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.myIP}:{self.myPort};branch=z9hG4bK{branch}",
            "Max-Forwards: 70",
            *(f"Route: {value}" for value in reversed(fields_of(raw, "record-route"))),
            f"From: {fields_of(raw, 'from')[0]}",
            f"To: {fields_of(raw, 'to')[0]}",
            f"Call-ID: {call_id}",
            f"CSeq: {number} {method}",
            "Content-Length: 0",
        ]
        return "\r\n".join(lines) + "\r\n\r\n"


def main(arguments: list[str]) -> None:
    """Dial, talk, listen, hang up."""
    router, port, own, own_port, rtp, user, number, hertz, seconds = arguments
    phone = VoIPPhone(
        router,
        int(port),
        user,
        "unused",
        myIP=own,
        sipPort=int(own_port),
        rtpPortLow=int(rtp),
        rtpPortHigh=int(rtp) + 20,
        callCallback=lambda call: None,
    )
    phone.sip = RepairedClient(
        router, int(port), user, "unused", phone=phone, myIP=own, myPort=int(own_port), callCallback=phone.callback,
        fatalCallback=phone.fatal,
    )  # fmt: skip
    phone.start()
    call = phone.call(number)
    end = time.monotonic() + 60
    while call.state is not CallState.ANSWERED and time.monotonic() < end:
        time.sleep(0.02)
    answered = call.state is CallState.ANSWERED
    heard: list[int] = []
    if answered:
        # pyVoIP's audio is 8 bit, unsigned, linear.
        samples = tone(float(hertz), int(8000 * float(seconds)), level=100)
        call.write_audio(bytes(sample + 128 for sample in samples))
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            heard += [(byte - 128) * 256 for byte in call.read_audio(160, True)]
        call.hangup()
        time.sleep(0.3)
    print(json.dumps({"answered": answered, "heard": heard}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    import os

    os._exit(0)  # pyVoIP's threads do not end by themselves
