"""A small OpenID Connect provider over HTTP: discovery, keys, authorization code with PKCE; it lets everybody in as
the user it is told, and can be told to lie."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey


class OidcProvider:
    """Knows one client. `claims` are those of whoever logs in; `lies` replace what its tokens say."""

    client_id = "edge911"
    client_secret = "the client's own secret"

    def __init__(self, address: str) -> None:
        self.claims: dict[str, Any] = {"sub": "1", "preferred_username": "Olive", "roles": ["engineer"]}
        self.lies: dict[str, Any] = {}
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.signing_key = self.key
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "one"}
        self.further_keys: list[dict[str, Any]] = []
        """Published beside its own."""
        self.userinfo: dict[str, Any] | None = None
        self._codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._post(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self.issuer = f"http://{address}:{self._server.server_address[1]}"

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        match parts.path:
            case "/.well-known/openid-configuration":
                names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
                if self.userinfo is not None:
                    names["userinfo_endpoint"] = "userinfo"
                found = {name: f"{self.issuer}/{path}" for name, path in names.items()}
                _answer(request, 200, {"issuer": self.issuer, **found})
            case "/userinfo":
                assert request.headers["Authorization"] == "Bearer a"
                _answer(request, 200, self.userinfo)
            case "/keys":
                published = KeySet([self.key]).as_dict(private=False)
                _answer(request, 200, {"keys": [*self.further_keys, *published["keys"]]})
            case "/authorize":
                asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                assert asked["client_id"] == self.client_id
                assert asked["response_type"] == "code"
                assert asked["code_challenge_method"] == "S256"
                assert "openid" in asked["scope"].split()
                code = secrets.token_urlsafe(16)
                self._codes[code] = asked
                request.send_response(302)
                back = urlencode({"code": code, "state": asked["state"]})
                request.send_header("Location", f"{asked['redirect_uri']}?{back}")
                request.send_header("Content-Length", "0")
                request.end_headers()
            case _:
                _answer(request, 404, {})

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        asked = {name: values[0] for name, values in parse_qs(body).items()}
        expected = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        begun = self._codes.pop(asked.get("code", ""), None)
        if begun is None or request.headers.get("Authorization") != f"Basic {expected}":
            _answer(request, 400, {"error": "invalid_grant"})
            return
        digest = hashlib.sha256(asked["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != begun["code_challenge"]:
            _answer(request, 400, {"error": "invalid_grant"})
            return
        now = int(time.time())
        claims = {
            **self.claims,
            "iss": self.issuer,
            "aud": self.client_id,
            "nonce": begun["nonce"],
            "iat": now,
            "exp": now + 60,
            **self.lies,
        }
        if self.header["alg"] == "none":
            parts = [json.dumps(part).encode() for part in (self.header, claims)]
            token = ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])
        else:
            token = jwt.encode(self.header, claims, self.signing_key)
        _answer(request, 200, {"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": token})


def _answer(request: BaseHTTPRequestHandler, status: int, document: Any) -> None:
    content = json.dumps(document).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


@contextmanager
def oidc_provider(address: str) -> Iterator[OidcProvider]:
    """A running one."""
    provider = OidcProvider(address)
    thread = threading.Thread(target=provider._server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield provider
    finally:
        provider._server.shutdown()
        thread.join()
        provider._server.server_close()
