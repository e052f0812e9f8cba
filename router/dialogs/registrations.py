"""REGISTER on its way to a registrar, and requests on their way back to the phone."""

import re
from collections.abc import Sequence

from router.calls.ordinary import OrdinaryCall
from sip.branch import Branch, Target
from sip.errors import Reason, RemoteError
from sip.message import Edits, Request, Response

_EXPIRES = re.compile(rb";\s*expires\s*=\s*(\d{1,9})", re.IGNORECASE)
_DEFAULT_EXPIRES = 3600
_LONGEST = 86_400
_GRACE = 60
"""A phone renews before its registration ends; its connection is kept a little longer; seconds."""


class Registration(OrdinaryCall):
    """A REGISTER: given a way back to the phone, and otherwise left as it came (trunks.X.registrar)."""

    __slots__ = ()

    def select_target(self, now: float) -> Target | None:
        target = super().select_target(now)
        if target is not None:
            self._give_way_back(target, supported=self._is_strict(target.name))
        return target

    def _is_strict(self, trunk: str) -> bool:
        state = self.router.trunks.states.get(trunk)
        return state is not None and state.path_needs_supported

    def _give_way_back(self, target: Target, *, supported: bool) -> None:
        mode = self.router.registrar_mode(target.name, target.flow)
        paths = self.router.paths
        if mode == "path":
            target.record_routes = (paths.path_line(self.request, self.server.flow, target.flow.point),)
            if supported and not _supports_path(self.request):
                target.request = target.request.edited(Edits(append=(b"Supported: path",)))
        elif mode == "contact" and self.request.has("contact"):
            lines = paths.rewritten_contacts(self.request, self.server.flow, target.flow.point)
            target.request = target.request.edited(Edits(replace={"contact": lines}))

    def retry_target(self, branch: Branch, response: Response, now: float) -> Target | None:
        """A registrar that takes Path only from phones that say they know it (RFC 3327 section 5.3): say it for the
        phone, which need do nothing about Path itself."""
        target = branch.target
        asks = _asks_for_path(response)
        if not asks or not target.record_routes or _supports_path(target.request):
            return None
        state = self.router.trunks.states.get(target.name)
        if state is not None:
            state.path_needs_supported = True
        again = Target(name=target.name, label=target.label + b"s", flow=target.flow, request=self.routed)
        self._give_way_back(again, supported=True)
        return again

    def on_branch_response(self, branch: Branch, response: Response, now: float) -> None:
        if 200 <= response.status < 300 and response.has("contact"):
            lines = self.router.paths.restored_contacts(response)
            if lines != response.lines("contact"):
                response = response.edited(Edits(replace={"contact": lines}))
            flow = self.server.flow
            self.router.callbacks.registered(self.request, response, flow, branch.target.flow)
            self.router.phones.note_registered(self.request, response, flow, branch.target.flow, now)
            if flow.connection:
                self.router.hold(flow, _expires(response) + _GRACE)
        super().on_branch_response(branch, response, now)


class CallToFlow(OrdinaryCall):
    """A request to a phone by the flow it registered by."""

    __slots__ = ()

    def send_failure(self, now: float) -> None:
        """RFC 5626 section 5.3.1: where the flow has failed the registrar is told so, and may know another."""
        if self.branches and all(branch.final is None and branch.status == 503 for branch in self.branches):
            error = RemoteError(Reason.FLOW_FAILED, 430, "the phone cannot be reached where it registered")
            self.fail(error, None, now)
            return
        super().send_failure(now)


def _supports_path(request: Request) -> bool:
    return b"path" in [value.lower() for value in request.values("supported")]


def _asks_for_path(response: Response) -> bool:
    name = {420: "unsupported", 421: "require"}.get(response.status)
    return name is not None and b"path" in [value.lower() for value in response.values(name)]


def _expires(response: Response) -> int:
    """Seconds until the last of the bindings ends, as the registrar says."""
    found: Sequence[bytes] = [match for line in response.lines("contact") for match in _EXPIRES.findall(line)]
    if not found:
        value = response.first("expires") or b""
        found = [value] if value.isdigit() and len(value) < 10 else [b"%d" % _DEFAULT_EXPIRES]
    return min(max(map(int, found)), _LONGEST)
