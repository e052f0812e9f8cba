"""Asking a location validation function (LVF) by LoST over HTTP: one address, one answer, within a deadline.

For commands and threads beside the calls; never for the call process. No redirect is followed, an answer may be 64 kB
long at the most and comes uncompressed, https is verified.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import httpx

from config.schema import Lvf
from e911.location import CivicAddress
from e911.lost import LOST_TYPE, LostError, Validation, read_answer, validation_request
from router.network.trust import verifying_context

LARGEST_ANSWER: Final = 65_536


class LvfClient:
    """One server; for one thread. path: where a file of the configuration is. A context manager."""

    def __init__(self, section: Lvf, path: Callable[[str], str], ca: str | None = None) -> None:
        """ca: of `tls.ca`, where the section names none. Raises OSError or ssl.SSLError for files not to be used."""
        self._section = section
        authority = section.ca or ca
        context = verifying_context(path(authority) if authority else None)
        if section.client_certificate is not None and section.client_key is not None:
            # A key with a passphrase must not ask for it on the terminal.
            context.load_cert_chain(path(section.client_certificate), path(section.client_key), password=lambda: "")
        headers = {
            "Content-Type": f"{LOST_TYPE};charset=utf-8",
            "Accept": LOST_TYPE,
            "Accept-Encoding": "identity",
            "User-Agent": "edge911",
        }
        if section.token:
            headers["Authorization"] = f"Bearer {section.token}"
        options: dict[str, Any] = {"timeout": section.timeout, "verify": context, "headers": headers}
        try:
            self._client = httpx.AsyncClient(**options)
        except (httpx.InvalidURL, ValueError):  # HTTPS_PROXY or NO_PROXY of this machine cannot be read
            self._client = httpx.AsyncClient(**options, trust_env=False)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections."""
        self._runner.run(self._client.aclose())
        self._runner.close()

    def validate(self, civic: CivicAddress) -> Validation:
        """What the server says of this address.

        Raises ValueError where the address says too little to be asked about, LostError where there is no answer.
        """
        return read_answer(self._runner.run(self._ask(validation_request(civic))), civic)

    async def _ask(self, request: bytes) -> bytes:
        try:
            async with asyncio.timeout(self._section.timeout):
                return await self._exchange(request)
        except (TimeoutError, httpx.TimeoutException):
            raise LostError("lvf-slow", f"no answer within {self._section.timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise LostError("lvf-unreachable", f"{type(error).__name__}: {error}"[:200]) from None

    async def _exchange(self, request: bytes) -> bytes:
        async with self._client.stream("POST", self._section.url, content=request) as response:
            status = response.status_code
            if 300 <= status < 400:
                raise LostError("lvf-redirects", f"HTTP {status}: another place, which is not asked")
            if status != 200:
                raise LostError("lvf-refused", f"HTTP {status} {response.reason_phrase}".strip()[:200])
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise LostError("lvf-unreadable", "Content-Encoding: it was not to be compressed")
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise LostError("lvf-too-large", f"more than {LARGEST_ANSWER:,} bytes")
            return body
