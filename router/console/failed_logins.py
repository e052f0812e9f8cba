"""Failed logins in the audit trail: who was tried, from where, how often; never what was typed as the password."""

from router.console.known_browsers import network_of
from router.console.pages import Page
from router.store.audit import record_change
from router.store.users import get_user

NOBODY = "unknown"
"""Instead of a name that no user has: some type their password there."""


def record_failed_login(page: Page, username: str, reason: str) -> None:
    """Have it stand in the audit trail, within bounds. reason: `wrong-password`, `oidc-no-role`, `oidc-name-taken`.
    Raises StoreError."""
    with page.console.store.reading() as conn:
        name = username if reason != "wrong-password" or get_user(conn, username) is not None else NOBODY
    tries = page.console.rates.failed_logins.count(f"{network_of(page.address)} {name}")
    if not tries:
        return
    said = {"from": page.address, "reason": reason, "tries": tries}
    with page.console.store.writing() as conn:
        record_change(conn, NOBODY, "login-failed", f"user:{name}", None, said, via="console")
