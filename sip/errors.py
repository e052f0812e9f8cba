"""Two families of errors: what a peer sent (RemoteError), and our own misuse (LocalError).

Every drop has a name: a RemoteError carries a Reason, which is counted, logged and asserted in tests, and the
status that RFC 3261 asks for where an answer is due.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a message was dropped or refused."""

    NOT_SIP = "not-sip"
    KEEP_ALIVE = "keep-alive"
    HEADER_INCOMPLETE = "header-incomplete"
    HEADER_TOO_LARGE = "header-too-large"
    MESSAGE_TOO_LARGE = "message-too-large"
    BAD_START_LINE = "bad-start-line"
    BAD_VERSION = "bad-version"
    BAD_STATUS = "bad-status"
    BAD_FIELD_LINE = "bad-field-line"
    MISSING_FIELD = "missing-field"
    REPEATED_FIELD = "repeated-field"
    BAD_CONTENT_LENGTH = "bad-content-length"
    BODY_INCOMPLETE = "body-incomplete"
    BAD_VIA = "bad-via"
    BAD_CSEQ = "bad-cseq"
    CSEQ_METHOD_MISMATCH = "cseq-method-mismatch"
    BAD_ADDRESS = "bad-address"
    BAD_MAX_FORWARDS = "bad-max-forwards"
    TOO_MANY_HOPS = "too-many-hops"
    LOOP_DETECTED = "loop-detected"
    MAX_BREADTH_EXCEEDED = "max-breadth-exceeded"
    BAD_REQUEST_URI = "bad-request-uri"
    UNSUPPORTED_SCHEME = "unsupported-scheme"
    BAD_EXTENSION = "bad-extension"
    NO_VIA_BELOW = "no-via-below"
    STRAY_RESPONSE = "stray-response"
    STRAY_ACK = "stray-ack"
    UNKNOWN_TRANSACTION = "unknown-transaction"
    SOURCE_NOT_LISTED = "source-not-listed"
    BLOCKED = "blocked"
    LOCATION_NEEDED = "location-needed"
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate-limited"
    NO_ROUTE = "no-route"
    BAD_FLOW_TOKEN = "bad-flow-token"
    FLOW_FAILED = "flow-failed"
    SHUTTING_DOWN = "shutting-down"
    SIPS_NOT_ALLOWED = "sips-not-allowed"
    NO_CLIENT_CERTIFICATE = "no-client-certificate"
    NEXT_HOP_UNREACHABLE = "next-hop-unreachable"
    NEXT_HOP_SILENT = "next-hop-silent"
    NEXT_HOP_UNAVAILABLE = "next-hop-unavailable"
    EVERY_ROUTE_FAILED = "every-route-failed"
    INTERNAL_ERROR = "internal-error"


class SipError(Exception):
    """Base of both families."""


class RemoteError(SipError):
    """A peer sent something we refuse.

    reason names it; status is the response code that suits (0: do not answer); detail is for the Reason of a log
    line and the reason phrase, and never holds more of the message than the offending value.
    """

    def __init__(self, reason: Reason, status: int, detail: str = "", request: object = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.status = status
        self.detail = detail
        self.request = request
        """The request as far as it could be read, for the answer to it."""


class LocalError(SipError):
    """We misused our own code."""
