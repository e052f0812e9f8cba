"""Users of the console, and their sessions. Passwords are kept as argon2 hashes, session tokens as SHA-256."""

import hashlib
import re
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Index,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from router.store.audit import Author, Change, record_changes
from router.store.metadata import metadata

users = Table(
    "users",
    metadata,
    Column("username", Text, primary_key=True),
    *(
        Column(name, Text, nullable=False, server_default="")
        for name in ("role", "sites", "password_hash", "source", "language", "issuer", "subject")
    ),
    Column("created_at", Double, nullable=False),
    Column("last_login_at", Double),
)
_IS_BOUND = text("subject <> ''")
Index(
    "ix_users_subject",
    users.c.issuer,
    users.c.subject,
    unique=True,
    sqlite_where=_IS_BOUND,
    postgresql_where=_IS_BOUND,
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("username", Text, nullable=False),
    Column("address", Text, nullable=False, server_default=""),
    *(Column(name, Double, nullable=False) for name in ("created_at", "seen_at", "expires_at")),
)
Index("ix_sessions_username", sessions.c.username)
Index("ix_sessions_expires_at", sessions.c.expires_at)

MIN_PASSWORD = 10
MAX_PASSWORD = 200
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}", re.ASCII)
_SEEN_EVERY = 60.0
"""So often, in seconds, a session in use is noted as seen: not at each request, for each is a write."""


class Role(StrEnum):
    """What a user may do; each may do what those before it may."""

    VIEWER = "viewer"
    DESK = "desk"
    ENGINEER = "engineer"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """True where this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class UserError(ValueError):
    """What was asked for cannot be; `field` names the input, the text ends in the remedy."""

    def __init__(self, field: str, what: str) -> None:
        self.field = field
        super().__init__(what)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who may log in. `sites`: those they see; None for all."""

    username: str
    role: Role
    sites: tuple[str, ...] | None = None
    source: str = "local"
    """`local`, or `oidc` where another system knows the password."""
    language: str = ""
    issuer: str = ""
    """Of `oidc`: the system that vouches for them, and under which `sub` (OpenID Connect Core 1.0 section 2)."""
    subject: str = ""
    created_at: float = 0.0
    last_login_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One login; `token` is the secret in the cookie, `csrf` what a form must bring."""

    token: str
    user: User
    expires_at: float

    @property
    def csrf(self) -> str:
        """Derived from the token, which no other site can read."""
        return csrf_of(self.token)


def csrf_of(token: str) -> str:
    """What forms of the holder of this cookie carry."""
    return hashlib.blake2b(token.encode(), digest_size=16, person=b"edge911 form").hexdigest()


def user_name(written: str) -> str:
    """The name as it is kept: lower case. Raises UserError."""
    name = written.strip().lower()
    if not _NAME.fullmatch(name):
        raise UserError(
            "username", f"{written[:40]!r} is not a user name; letters a-z, digits and . _ - @ +, 100 at most"
        )
    return name


def check_new_password(password: str, username: str) -> None:
    """Raise UserError where it is too short, too long or the name itself."""
    if len(password) < MIN_PASSWORD:
        raise UserError("password", f"{len(password)} characters; {MIN_PASSWORD} at least")
    if len(password) > MAX_PASSWORD:
        raise UserError("password", f"{len(password)} characters; {MAX_PASSWORD} at most")
    if username in password.lower() and len(password) < len(username) + 6:
        raise UserError("password", "hardly more than the user name; choose another")


def check_sites(role: Role, sites: Sequence[str] | None) -> tuple[str, ...] | None:
    """The sites as they are kept. Raises UserError for an admin of some sites: an admin could give themselves all."""
    if sites is None:
        return None
    if role is Role.ADMIN:
        raise UserError("sites", "an admin sees all sites; take the sites away, or make them an engineer")
    return tuple(sorted(set(sites)))


def all_users(conn: Connection) -> list[User]:
    """Everybody, by name."""
    return [_user(row._mapping) for row in conn.execute(select(users).order_by(users.c.username))]


def get_user(conn: Connection, username: str) -> User | None:
    """One of them, by name in any case."""
    found = conn.execute(select(users).where(users.c.username == username.strip().lower())).one_or_none()
    return _user(found._mapping) if found is not None else None


def password_hash_of(conn: Connection, username: str) -> str:
    """The hash of a user's password; empty where there is no such user, or no password."""
    query = select(users.c.password_hash).where(users.c.username == username.strip().lower())
    return conn.execute(query).scalar_one_or_none() or ""


def add_user(conn: Connection, user: User, password_hash: str, author: Author) -> None:
    """Add a user. Raises UserError where the name is taken."""
    if get_user(conn, user.username) is not None:
        raise UserError("username", f"there is a user {user.username} already; choose another name")
    now = time.time()
    conn.execute(insert(users), [{**_columns(user), "password_hash": password_hash, "created_at": now}])
    change = Change(action="create", subject=f"user:{user.username}", after=_shown(user))
    record_changes(conn, author, [change], at=now)


def change_user(conn: Connection, username: str, author: Author, *, role: Role, sites: Sequence[str] | None) -> User:
    """Give a user another role and sites; it counts from their next click. Raises UserError."""
    known = _known(conn, username)
    if known.role is Role.ADMIN and role is not Role.ADMIN:
        _keep_an_admin(conn, known)
    changed = replace(known, role=role, sites=check_sites(role, sites))
    if changed != known:
        conn.execute(update(users).where(users.c.username == known.username).values(**_columns(changed)))
        record_changes(
            conn,
            author,
            [Change(action="change", subject=f"user:{known.username}", before=_shown(known), after=_shown(changed))],
        )
    return changed


def oidc_user(conn: Connection, username: str, role: Role, *, issuer: str, subject: str) -> User:
    """The user that another system vouches for, with the role it gives; added at their first login.

    They are known by issuer and subject, which alone are nobody else's, now or later (OpenID Connect Core 1.0 section
    5.7); `username` names who is new. A user of before that is bound by the first login of that name: more than
    their name and sites it does not give, for the role is the system's each time. Raises UserError where the name is
    another's.
    """
    bound = conn.execute(
        select(users).where(users.c.issuer == issuer, users.c.subject == subject, users.c.subject != "")
    ).one_or_none()
    known = _user(bound._mapping) if bound is not None else get_user(conn, username)
    author = Author(who=known.username if known is not None else username, via="oidc")
    if known is None:
        made = User(username=username, role=role, source="oidc", issuer=issuer, subject=subject)
        add_user(conn, made, "", author)
        return made
    if known.source != "oidc":
        raise UserError("username", f"{username} has a password here; log in with that")
    if (known.issuer, known.subject) not in (("", ""), (issuer, subject)):
        remedy = "an admin takes that user away (Users), or console.oidc.username_claim names a claim that differs"
        raise UserError("username", f"{username} is somebody else of that name; {remedy}")
    sites = None if role is Role.ADMIN else known.sites
    changed = replace(known, role=role, sites=sites, issuer=issuer, subject=subject)
    if changed != known:
        conn.execute(update(users).where(users.c.username == known.username).values(**_columns(changed)))
        change = Change(
            action="change", subject=f"user:{known.username}", before=_shown(known), after=_shown(changed)
        )
        record_changes(conn, author, [change])
    return changed


def set_password_hash(conn: Connection, username: str, password_hash: str, author: Author) -> None:
    """Give a user another password, and end all their sessions. Raises UserError."""
    known = _known(conn, username)
    conn.execute(update(users).where(users.c.username == known.username).values(password_hash=password_hash))
    conn.execute(delete(sessions).where(sessions.c.username == known.username))
    record_changes(conn, author, [Change(action="change-password", subject=f"user:{known.username}")])


def refresh_password_hash(conn: Connection, username: str, password_hash: str) -> None:
    """The same password, hashed as is done today."""
    conn.execute(update(users).where(users.c.username == username).values(password_hash=password_hash))


def set_language(conn: Connection, username: str, language: str) -> None:
    """What the user reads."""
    conn.execute(update(users).where(users.c.username == username).values(language=language))


def remove_user(conn: Connection, username: str, author: Author) -> None:
    """Take a user away, and end their sessions. Raises UserError, also where nobody could administer any more."""
    known = _known(conn, username)
    if known.role is Role.ADMIN:
        _keep_an_admin(conn, known)
    conn.execute(delete(users).where(users.c.username == known.username))
    conn.execute(delete(sessions).where(sessions.c.username == known.username))
    change = Change(action="remove", subject=f"user:{known.username}", before=_shown(known))
    record_changes(conn, author, [change])


def begin_session(conn: Connection, user: User, *, address: str, now: float, seconds: float) -> Session:
    """A new session, with a new token: one that was there before the login is never taken over."""
    token = secrets.token_urlsafe(32)
    expires_at = now + seconds
    conn.execute(delete(sessions).where(sessions.c.expires_at < now))
    conn.execute(
        insert(sessions),
        [
            {
                "id": _session_id(token),
                "username": user.username,
                "address": address,
                "created_at": now,
                "seen_at": now,
                "expires_at": expires_at,
            }
        ],
    )
    conn.execute(update(users).where(users.c.username == user.username).values(last_login_at=now))
    return Session(token=token, user=user, expires_at=expires_at)


def find_session(conn: Connection, token: str, now: float) -> tuple[Session, bool] | None:
    """The live session of that token, and whether it is time to note it as seen; None where there is none."""
    query = (
        select(users, sessions.c.expires_at, sessions.c.seen_at)
        .join(sessions, sessions.c.username == users.c.username)
        .where(sessions.c.id == _session_id(token), sessions.c.expires_at > now)
    )
    found = conn.execute(query).one_or_none()
    if found is None:
        return None
    row = found._mapping
    session = Session(token=token, user=_user(row), expires_at=row["expires_at"])
    return session, now - row["seen_at"] > _SEEN_EVERY


def sites_of_sessions(conn: Connection, tokens: Collection[str], now: float) -> dict[str, tuple[str, ...] | None]:
    """The sites that the users of these sessions see (None for all), by token; without those that are over."""
    by_id = {_session_id(token): token for token in tokens}
    query = (
        select(sessions.c.id, users.c.sites)
        .join(users, sessions.c.username == users.c.username)
        .where(sessions.c.id.in_(list(by_id)), sessions.c.expires_at > now)
    )
    return {by_id[row.id]: sites_of(row.sites) for row in conn.execute(query)}


def note_session(conn: Connection, token: str, *, now: float, seconds: float, longest: float) -> None:
    """It was used: it lasts so many seconds more, never beyond `longest` after its beginning."""
    expires_at = _earlier(now + seconds, sessions.c.created_at + longest)
    conn.execute(
        update(sessions).where(sessions.c.id == _session_id(token)).values(seen_at=now, expires_at=expires_at)
    )


def end_session(conn: Connection, token: str) -> None:
    """Log out."""
    conn.execute(delete(sessions).where(sessions.c.id == _session_id(token)))


def count_sessions(conn: Connection, now: float) -> int:
    """How many are live."""
    return conn.execute(select(func.count()).select_from(sessions).where(sessions.c.expires_at > now)).scalar_one()


def sites_text(sites: Sequence[str] | None) -> str:
    """Sites as a column holds them: `*` for all, else names with spaces between (no name holds one)."""
    return "*" if sites is None else " ".join(sites)


def sites_of(text: str) -> tuple[str, ...] | None:
    """As `sites_text` wrote them."""
    return None if text == "*" else tuple(text.split())


def _earlier(one: float, other: Any) -> Any:
    from sqlalchemy import case

    return case((other < one, other), else_=one)


def _session_id(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _known(conn: Connection, username: str) -> User:
    found = get_user(conn, username)
    if found is None:
        raise UserError("username", f"there is no user {username!r}; `edge911 users list` shows them")
    return found


def _keep_an_admin(conn: Connection, user: User) -> None:
    query = select(func.count()).select_from(users)
    others = query.where(users.c.role == Role.ADMIN.value, users.c.username != user.username)
    if not conn.execute(others).scalar_one():
        raise UserError("role", f"{user.username} is the only admin; make somebody else an admin first")


def _columns(user: User) -> dict[str, Any]:
    return {
        "username": user.username,
        "role": user.role.value,
        "sites": sites_text(user.sites),
        "source": user.source,
        "language": user.language,
        "issuer": user.issuer,
        "subject": user.subject,
    }


def _shown(user: User) -> dict[str, Any]:
    bound = {"issuer": user.issuer, "subject": user.subject} if user.subject else {}
    return {"role": user.role.value, "sites": sites_text(user.sites), "source": user.source, **bound}


def _user(row: Any) -> User:
    role = row["role"]
    return User(
        username=row["username"],
        role=Role(role) if role in set(Role) else Role.VIEWER,
        sites=sites_of(row["sites"]),
        source=row["source"],
        language=row["language"],
        issuer=row["issuer"],
        subject=row["subject"],
        created_at=row["created_at"],
        last_login_at=row["last_login_at"],
    )
