"""Further copies of a 2xx, which no response context sees any more: edited as the first one was."""

from collections.abc import Callable

from sip.machines import ClientTransaction
from sip.message import Response
from sip.owners import ClientOwner

Edit = Callable[[Response], Response]


class EditingRelay:
    """Edits further copies of a 2xx. owner: who has them sent on."""

    __slots__ = ("edit", "owner")

    def __init__(self, owner: ClientOwner, edit: Edit) -> None:
        self.owner = owner
        self.edit = edit

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        self.owner.on_response(client, self.edit(response), now)

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        self.owner.on_timeout(client, now)

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        self.owner.on_transport_error(client, now)


def edit_later_copies(client: ClientTransaction | None, owner: object, edit: Edit) -> None:
    """Have further copies of the 2xx edited too, once another than the branch (owner) is in charge of them."""
    if client is not None and client.owner is not None and client.owner is not owner:
        client.owner = EditingRelay(client.owner, edit)
