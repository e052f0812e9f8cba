"""The plain `json://` channel over a kept-alive connection: what Apprise's plugin sends, at less cost.

Apprise opens a connection and a session for every notice. This takes its plugin's parsed URL, sends the same
document, and leaves everything out of the ordinary (TLS, credentials, redirects, proxies, extra fields) to
the plugin itself.
"""

import http.client
import select
import socket
from typing import Any

import orjson
from apprise.plugins.custom_json import NotifyJSON
from requests.utils import get_environ_proxies, get_netrc_auth

from router.network import http_answers
from router.notices.outbox import Attempt

TRY_LATER = frozenset({408, 421, 423, 425, 429})
"""4xx status codes that a later attempt may change."""
_MAX_ANSWER = 2000


class KeepAliveWebhook:
    """One receiver and one connection to it; for use by one thread."""

    def __init__(self, plugin: Any) -> None:
        self._plugin = plugin
        self._host: str = plugin.host.strip("[]")
        self._port: int = plugin.port or 80
        self._headers = {"User-Agent": plugin.app_id, "Content-Type": "application/json", "Accept": "*/*"}
        self._connection: http.client.HTTPConnection | None = None

    @classmethod
    def of(cls, plugin: Any) -> "KeepAliveWebhook | None":
        """The webhook for a plugin of Apprise; None where only the plugin itself will do."""
        if type(plugin) is not NotifyJSON or plugin.secure or plugin.user or plugin.method != "POST":
            return None
        if plugin.headers or plugin.params or plugin.payload_extras or not plugin.fullpath.isascii():
            return None
        url = f"http://{plugin.host}"
        if get_environ_proxies(url) or get_netrc_auth(url):
            return None
        return cls(plugin)

    def send(self, subject: str, body: str, *, notify_type: str) -> Attempt | None:
        """One POST. None where the plugin should do it instead (a redirect)."""
        document = {
            "version": NotifyJSON.json_version,
            "title": subject,
            "message": body,
            "attachments": [],
            "type": notify_type,
        }
        try:
            connection = self._connected()
            connection.request("POST", self._plugin.fullpath or "/", orjson.dumps(document), self._headers)
            response = connection.getresponse()
            answer = response.read(_MAX_ANSWER)
            if response.will_close or not response.isclosed():
                self.close()
        except TimeoutError:
            self.close()
            return Attempt(delivered=False, reason="timeout", words="no answer in time")
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Attempt(delivered=False, reason="unreachable", words=_words_of(error))
        is_lost = response.status in http_answers.TURNS_TO_GET
        if 300 <= response.status < 400 and self._plugin.redirects and not is_lost:
            return None
        words = http_answers.words_of(response.status, response.reason, response.headers.get("location", ""))
        if 200 <= response.status < 300:
            return Attempt(delivered=True, words=words)
        text = " ".join(answer.decode("utf-8", "replace").split())[:300]
        return Attempt(
            delivered=False,
            permanent=is_lost or (400 <= response.status < 500 and response.status not in TRY_LATER),
            reason="refused",
            words=f"{words}: {text}" if text else words,
        )

    def _connected(self) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is not None and connection.sock is not None:
            poll = select.poll()
            poll.register(connection.sock, select.POLLIN)
            if not poll.poll(0):
                return connection
            # The receiver closed it, or said something nobody asked for.
            self.close()
        connect_timeout, read_timeout = self._plugin.request_timeout
        connection = http.client.HTTPConnection(self._host, self._port, timeout=connect_timeout)
        connection.connect()
        connection.sock.settimeout(read_timeout)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        return connection

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _words_of(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror) if strerror else (str(error) or type(error).__name__)
