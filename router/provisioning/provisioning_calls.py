"""One request to a provisioning target over HTTP, and what its answer means for the device."""

import hashlib
import hmac
import math
import ssl
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import httpx
import orjson

from config.schema import ProvisioningTarget
from e911.bandwidth import Endpoint, delete_order, read_answer, upsert_order
from e911.location import CivicAddress
from router.locations.location_cells import is_provider_id
from router.network.trust import verifying_context

LARGEST_ANSWER: Final = 65_536
LONGEST_WORDS: Final = 300
LONGEST_WAIT: Final = 3600.0
TRY_LATER: Final = frozenset({401, 403, 404, 408, 421, 425, 429})
"""4xx that say nothing of this device: credentials, a wrong URL, too many requests."""
NOT_THERE: Final = frozenset({404, 410})
"""What is said of a device that is to be forgotten and is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request."""

    done: bool = False
    refused: bool = False
    """For good, until the device changes."""
    order_id: str = ""
    """It goes on at the provider; to be asked about again."""
    is_lost: bool = False
    """The provider knows no order of that name any more; it is to be placed again."""
    words: str = ""
    location_id: str = ""
    endpoint_id: str = ""
    wait: float = 0.0
    """Seconds that the target wants to be left alone (Retry-After); 0 where it does not say."""

    @property
    def is_away(self) -> bool:
        """True where the target said nothing of this device: others need not be tried now either."""
        return not (self.done or self.refused or self.order_id)


class Answer(NamedTuple):
    """An answer over HTTP. wait: seconds of its Retry-After, or 0."""

    status: int
    body: bytes
    wait: float


class TargetCalls:
    """The HTTP side of one target; for one thread."""

    def __init__(self, name: str, section: ProvisioningTarget, ca: str | None) -> None:
        self._name = name
        self._section = section
        verify: ssl.SSLContext | bool = verifying_context(ca) if ca else True
        auth = (section.username, section.password) if section.username else None
        options: dict[str, Any] = {"timeout": section.timeout, "verify": verify, "auth": auth}
        options["headers"] = {"User-Agent": "edge911"}
        try:
            self._client = httpx.Client(**options)  # which does not follow redirects
        except (httpx.InvalidURL, ValueError):  # HTTPS_PROXY or NO_PROXY of this machine cannot be read
            self._client = httpx.Client(**options, trust_env=False)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def tell(self, action: str, document: dict[str, Any]) -> Outcome:
        """Tell of a device (`upsert`), or that it is gone (`delete`)."""
        if self._section.kind == "webhook":
            return self._webhook(action, document)
        order = f"{document['device'][:20]}-{document['id'][:12]}"
        if action == "upsert":
            content = upsert_order(_endpoint(document), order)
        else:
            content = delete_order(document["endpoint_id"], order)
        answer = self._request("POST", f"accounts/{self._section.account}/e911s", content, "application/xml")
        return self._order_outcome(answer, document, is_delete=action == "delete")

    def ask(self, order_id: str, document: dict[str, Any]) -> Outcome:
        """What became of an order that was not done; lost where the provider knows nothing of it."""
        path = f"accounts/{self._section.account}/e911s/{order_id}"
        answer = self._request("GET", path)
        outcome = self._order_outcome(answer, document)
        if not isinstance(answer, Outcome) and answer.status == 404:
            return replace(outcome, is_lost=True)
        return outcome

    def _order_outcome(
        self, answer: "Outcome | Answer", document: dict[str, Any], *, is_delete: bool = False
    ) -> Outcome:
        if isinstance(answer, Outcome):
            return answer
        status, body, wait = answer
        found = read_answer(body) if body else None
        words = _words(status, found.words if found is not None else "")
        if is_delete and status in NOT_THERE and found is not None and found.is_readable and found.words:
            return Outcome(done=True)
        if status in TRY_LATER or status >= 500 or status < 200:
            return Outcome(words=words, wait=wait)
        if status >= 300 or found is None or found.failed or (found.words and not found.done):
            return Outcome(refused=True, words=words) if status < 300 or status >= 400 else Outcome(words=words)
        if not found.done:
            return Outcome(order_id=found.order, words="" if found.order else "the answer names no order")
        return Outcome(done=True, location_id=document["location_id"], endpoint_id=document["endpoint_id"])

    def _webhook(self, action: str, document: dict[str, Any]) -> Outcome:
        content = orjson.dumps({"event": action, "target": self._name, **document})
        answer = self._request("POST", "", content, "application/json", document["id"])
        if isinstance(answer, Outcome):
            return answer
        status, body, wait = answer
        said = _json(body)
        words = _words(status, str(said.get("words") or said.get("message") or "") or _plain(body))
        if 200 <= status < 300:
            if said.get("status") == "refused":
                return Outcome(refused=True, words=words)
            location_id, endpoint_id = _id(said.get("location_id")), _id(said.get("endpoint_id"))
            return Outcome(done=True, location_id=location_id, endpoint_id=endpoint_id)
        if action == "delete" and status in NOT_THERE:
            return Outcome(done=True)
        if status in TRY_LATER or not 400 <= status < 500:
            return Outcome(words=words, wait=wait)
        return Outcome(refused=True, words=words)

    def _request(
        self, method: str, path: str, content: bytes = b"", kind: str = "", key: str = ""
    ) -> "Outcome | Answer":
        """What it answers; an Outcome to try later where there is no answer."""
        url = f"{self._section.url.rstrip('/')}/{path}" if path else self._section.url
        headers = {"content-type": kind} if kind else {}
        if key:
            headers["Idempotency-Key"] = key
        if self._section.secret:
            signature = hmac.new(self._section.secret.encode(), content, hashlib.sha256).hexdigest()
            headers["X-Edge911-Signature"] = f"sha256={signature}"
        ends = time.monotonic() + self._section.timeout
        try:
            with self._client.stream(method, url, content=content or None, headers=headers) as response:
                body = b""
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > LARGEST_ANSWER:
                        return Outcome(words=f"{response.status_code}: an answer of more than {LARGEST_ANSWER} bytes")
                    if time.monotonic() > ends:  # the timeout of httpx counts anew with every byte
                        return Outcome(words=f"no whole answer within {self._section.timeout:g} s")
                return Answer(response.status_code, body, _wait(response.headers.get("retry-after", "")))
        except httpx.TimeoutException:
            return Outcome(words=f"no answer within {self._section.timeout:g} s")
        except httpx.HTTPError as error:
            return Outcome(words=f"{type(error).__name__}: {error}"[:LONGEST_WORDS])


def _wait(text: str) -> float:
    """Seconds that a Retry-After field asks for (RFC 9110 section 10.2.3), at most an hour; 0 where it is none."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else 0.0


def _endpoint(document: dict[str, Any]) -> Endpoint:
    return Endpoint(
        identifier=document["endpoint_id"],
        location_id=document["location_id"],
        callback=document["callback"].removeprefix("+1"),
        name=document["name"],
        language=document["language"] or "en",
        civic=CivicAddress(**document["address"]),
    )


def _words(status: int, words: str) -> str:
    text = " ".join("".join(char if char.isprintable() else " " for char in words).split())
    return f"{status}: {text}"[:LONGEST_WORDS] if text else f"{status}"


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _plain(body: bytes) -> str:
    return "" if body[:1] in (b"{", b"[", b"<") else body.decode("utf-8", "replace")


def _id(value: object) -> str:
    """An id that may stand in a message; anything else is none."""
    return value if isinstance(value, str) and is_provider_id(value) else ""
