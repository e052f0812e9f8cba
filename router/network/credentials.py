"""Credentials towards trunks: the answer to a trunk's challenge (`auth` in the configuration)."""

import hashlib

from config.schema import Trunk
from sip.digest import Credentials, answer, challenges_of
from sip.message import Edits, Request, Response

CHALLENGES = (401, 407)
MOST_CHALLENGES = 2
"""The second only where it says that the nonce of the first was stale."""


def with_credentials(
    trunk: Trunk, request: Request, response: Response, challenged: int, key: bytes
) -> Request | None:
    """The request with answers to the challenges of a 401 or 407; None where it would be no use to send it again.

    challenged: how many challenges of this trunk were answered for it already. key: the node's; the client nonce is
    derived with it, so that the same challenge is answered alike.
    """
    auth = trunk.auth
    if auth is None or challenged >= MOST_CHALLENGES:
        return None
    challenges = challenges_of(response)
    if not challenges or (challenged and not all(challenge.stale for challenge in challenges)):
        return None
    credentials = Credentials(auth.username, auth.password)
    lines = [
        answer(
            challenge,
            credentials,
            method=request.method,
            uri=request.uri,
            body=request.body,
            cnonce=hashlib.blake2b(challenge.nonce[:1024], key=key, digest_size=8, person=b"cnonce")
            .hexdigest()
            .encode(),
        )
        for challenge in challenges
    ]
    return request.edited(Edits(append=lines))


def _client_nonce(nonce: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(nonce, key=key, digest_size=8, person=b"client nonce").hexdigest().encode()
