"""Requests in a dialog whose From or To was edited on the way: their responses carry it as it came."""

from router.calls.ordinary import OrdinaryCall
from router.dialogs.registrations import CallToFlow
from router.emergency.from_uri import EditedRequest, relay_restoring, with_line
from sip.branch import Branch
from sip.machines import ClientTransaction
from sip.message import Request, Response


class RestoringCall(OrdinaryCall):
    """To wherever the dialog leads."""

    __slots__ = ()

    def on_branch_response(self, branch: Branch, response: Response, now: float) -> None:
        client = branch.client
        super().on_branch_response(branch, _restored(self.request, response), now)
        _restore_copies(self.request, branch, client)


class RestoringCallToFlow(CallToFlow):
    """To a phone by the flow it registered by."""

    __slots__ = ()

    def on_branch_response(self, branch: Branch, response: Response, now: float) -> None:
        client = branch.client
        super().on_branch_response(branch, _restored(self.request, response), now)
        _restore_copies(self.request, branch, client)


def _restored(request: Request, response: Response) -> Response:
    if not isinstance(request, EditedRequest) or response.status == 100:
        return response
    return with_line(response, *request.kept)


def _restore_copies(request: Request, branch: Branch, client: ClientTransaction | None) -> None:
    if isinstance(request, EditedRequest):
        relay_restoring(client, branch, *request.kept)
