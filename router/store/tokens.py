"""Tokens of the REST API: `e911_ID_SECRET`, of which the SHA-256 of the secret is kept. Shown once, when made."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Connection, Double, Table, Text, delete, insert, select, update

from router.store.audit import Author, Change, record_changes
from router.store.metadata import metadata
from router.store.users import UserError, sites_of, sites_text

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    *(
        Column(name, Text, nullable=False, server_default="")
        for name in ("name", "role", "sites", "secret_hash", "created_by")
    ),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
)

_PREFIX = "e911"
_USED_EVERY = 60.0


class TokenRole(StrEnum):
    """What the holder of a token may do; each may do what those before it may."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, needed: "TokenRole") -> bool:
        """True where this role may do what `needed` may."""
        order = list(TokenRole)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A token as it is known afterwards. `sites`: those it sees; None for all."""

    id: str
    name: str
    role: TokenRole
    sites: tuple[str, ...] | None
    created_by: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None


def add_token(
    conn: Connection,
    name: str,
    role: TokenRole,
    author: Author,
    *,
    sites: Sequence[str] | None = None,
    expires_at: float | None = None,
) -> tuple[ApiToken, str]:
    """A new token, and the text that its holder gets. Raises UserError for no name, and an admin of some sites."""
    label = name.strip()
    if not label or len(label) > 100 or not label.isprintable():
        raise UserError("name", "a token needs a name that says who holds it, 100 characters at most")
    if sites is not None and role is TokenRole.ADMIN:
        raise UserError("sites", "an admin token sees all sites; take the sites away, or choose write")
    token = ApiToken(
        id=secrets.token_hex(4),
        name=label,
        role=role,
        sites=None if sites is None else tuple(sorted(set(sites))),
        created_by=author.who,
        created_at=time.time(),
        expires_at=expires_at,
        last_used_at=None,
    )
    secret = secrets.token_urlsafe(32).replace("_", "-")
    values = {**_shown(token), "id": token.id, "secret_hash": _hash(secret), "created_by": token.created_by}
    conn.execute(insert(api_tokens), [{**values, "created_at": token.created_at, "expires_at": expires_at}])
    record_changes(conn, author, [Change(action="create", subject=f"token:{token.id}", after=_shown(token))])
    return token, f"{_PREFIX}_{token.id}_{secret}"


def all_tokens(conn: Connection) -> list[ApiToken]:
    """All of them, the newest last."""
    return [_token(row._mapping) for row in conn.execute(select(api_tokens).order_by(api_tokens.c.created_at))]


def find_token(conn: Connection, text: str, now: float) -> tuple[ApiToken, str] | None:
    """The token of that text, and what is wrong with it (`token-expired`) or nothing; None where there is none."""
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    if prefix != _PREFIX or not token_id or not secret:
        return None
    found = conn.execute(select(api_tokens).where(api_tokens.c.id == token_id)).one_or_none()
    if found is None or not hmac.compare_digest(found._mapping["secret_hash"], _hash(secret)):
        return None
    token = _token(found._mapping)
    expired = token.expires_at is not None and token.expires_at <= now
    return token, "token-expired" if expired else ""


def is_time_to_note(token: ApiToken, now: float) -> bool:
    """True where its last use is not to be noted at each request, but now."""
    return token.last_used_at is None or now - token.last_used_at > _USED_EVERY


def note_token(conn: Connection, token_id: str, now: float) -> None:
    """It was used."""
    conn.execute(update(api_tokens).where(api_tokens.c.id == token_id).values(last_used_at=now))


def remove_token(conn: Connection, token_id: str, author: Author) -> ApiToken:
    """Take it away; it opens nothing from now on. Raises UserError where there is none."""
    found = conn.execute(select(api_tokens).where(api_tokens.c.id == token_id)).one_or_none()
    if found is None:
        raise UserError("token", f"there is no token {token_id!r}; `edge911 tokens list` shows them")
    token = _token(found._mapping)
    conn.execute(delete(api_tokens).where(api_tokens.c.id == token_id))
    record_changes(conn, author, [Change(action="remove", subject=f"token:{token_id}", before=_shown(token))])
    return token


def _hash(secret: str) -> str:
    # No slow hash: the secret is 256 random bits, which nobody guesses.
    return hashlib.sha256(secret.encode()).hexdigest()


def _shown(token: ApiToken) -> dict[str, Any]:
    return {"name": token.name, "role": token.role.value, "sites": sites_text(token.sites)}


def _token(row: Any) -> ApiToken:
    role = row["role"]
    return ApiToken(
        id=row["id"],
        name=row["name"],
        role=TokenRole(role) if role in set(TokenRole) else TokenRole.READ,
        sites=sites_of(row["sites"]),
        created_by=row["created_by"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
    )
