"""The response context of a stateful proxy (RFC 3261 section 16), with serial routes.

A ResponseContext belongs to one server transaction. It asks its policy for one target after another, forwards the
request to each as a Branch (one client transaction and its timers), and sends back what section 16.7 says. A branch
that was given up because it was silent stays alive: its late answer still counts.

What a policy may decide stands in the methods under "policy"; the defaults are those of an ordinary proxy.
"""

from sip.branch import Branch, BranchState, Failure, SuccessRelay, Target, best_response, with_all_challenges
from sip.errors import Reason, RemoteError
from sip.forwarding import backward_bytes, derive_branch, forward_bytes, has_way_back, loop_mark
from sip.machines import ServerTransaction
from sip.message import Request, Response
from sip.stack import Stack
from sip.transaction import State

# Members of an enumeration are looked up slowly, and these several times for each response.
_CALLING, _TRYING, _RINGING, _DONE = BranchState.CALLING, BranchState.TRYING, BranchState.RINGING, BranchState.DONE
_ACCEPTED = State.ACCEPTED

TIMER_C = 185.0
"""Section 16.6 step 11: more than 3 minutes, seconds."""
LONGEST_SILENCE = 3600.0
"""How long the last route of an emergency call may ring without a further word of the provider, seconds. The callee
repeats its provisional response each minute (section 13.3.1.1): after an hour without one nobody is there any more,
and a caller who went without a CANCEL would be kept for ever."""
CANCEL_WAIT = 32.0
"""Section 9.1: 64*T1 after a CANCEL the branch counts as ended, seconds."""


class ResponseContext:
    """Section 16.2: one request being proxied, all its branches, and what goes back upstream."""

    __slots__ = (
        "answer_tag",
        "branches",
        "cancelled",
        "final_status",
        "key",
        "reasons",
        "request",
        "routes_ended",
        "server",
        "stack",
        "winner",
    )

    def __init__(self, stack: Stack, server: ServerTransaction, request: Request, key: bytes) -> None:
        self.stack = stack
        self.server = server
        self.request = request
        self.key = key
        self.branches: list[Branch] = []
        self.winner: Branch | None = None
        self.cancelled = False
        self.routes_ended = False
        self.final_status = 0
        """Status of the final response sent upstream; 0 while there is none."""
        self.reasons: list[bytes] = []
        self.answer_tag = b""
        """To tag of the 2xx sent upstream."""
        server.owner = self

    # ---- policy ----

    def select_target(self, now: float) -> Target | None:
        """The next untried target, or None."""
        raise NotImplementedError

    def retry_target(self, branch: Branch, response: Response, now: float) -> Target | None:
        """A second try at the same place after this response, or None."""
        return None

    def tries_next(self, status: int) -> bool:
        """True where a branch that ended with this status (408 and 503 also of our own) sends us to the next target.

        Ordinary calls: only where the trunk did not serve the call. A busy or unknown number is an answer.
        """
        return status in (408, 502, 503, 504)

    first_to_ring_wins = False
    """Emergency calls: when one route rings, the others are cancelled."""
    ends_on_6xx = True
    """Section 16.7 step 5: a 6xx cancels everything; deviation (b) of emergency calls says no."""
    watches_answers = False
    """Emergency calls: the TU is told when a second phone behind the provider answers."""
    forgives_answers = False
    """Emergency calls: a response whose body is not as long as it says is taken all the same."""
    keeps_ringing = False
    """Emergency calls: timer C starts the next route, and ends the last one that rings only after LONGEST_SILENCE."""

    def awaits_cancelled(self, branch: Branch) -> bool:
        """True where the caller who has cancelled waits for what this cancelled branch says."""
        return True

    def on_progress(self, branch: Branch, event: str, status: int, now: float) -> None:
        """Told of each thing that happens to a branch, by name (for records)."""

    def on_orphan_success(self, branch: Branch, response: Response, now: float) -> None:
        """A 2xx came after another final response had gone upstream. It is forwarded like any (section 16.7 step 5),
        past the server transaction, which may send no 2xx any more."""
        self.stack.out.append((self.server.flow, backward_bytes(response, self.server.flow), None))

    def on_second_success(self, branch: Branch, response: Response, now: float) -> None:
        """A 2xx of a second branch was forwarded (section 16.7 step 5, all 2xx are)."""

    def on_finished(self, status: int, branch: Branch | None, now: float) -> None:
        """The final response has gone upstream; branch is the one it came from, None where it is ours."""

    def send_failure(self, now: float) -> None:
        """All targets failed: send the best response (section 16.7 step 6)."""
        best = best_response(self.branches)
        status = best.status if best is not None else 480
        if status == 408 and self.server.method != b"INVITE":
            # RFC 4320 section 4.2: a 408 to a non-INVITE comes too late to be of use to anyone, whoever made it.
            self.final_status = 408
            self.stack.abandon(self.server)
            self.close(408, None, now)
        elif best is None or best.final is None:
            reason = Reason.NEXT_HOP_SILENT if status == 408 else Reason.NEXT_HOP_UNREACHABLE
            self.fail(RemoteError(reason, status, f"tried: {len(self.branches)}"), None, now)
        elif status == 503:
            # "a proxy which receives a 503 ... SHOULD NOT forward it"; its Retry-After would hold back 911, too.
            self.fail(RemoteError(Reason.NEXT_HOP_UNAVAILABLE, 500, "it answered 503"), best, now)
        else:
            self.forward_final(best, now)

    # ---- running ----

    def start(self, now: float) -> None:
        """Forward to the first target."""
        if not self.next_route(now):
            self.finish_if_exhausted(now)

    def next_route(self, now: float) -> bool:
        """Start the next untried target; False where there is none."""
        if self.cancelled or self.final_status or self.routes_ended:
            return False
        target = self.select_target(now)
        if target is None:
            self.routes_ended = True
            return False
        self.start_branch(target, now)
        return True

    def start_branch(self, target: Target, now: float) -> Branch:
        """Forward the request to a target (section 16.6)."""
        branch = Branch(self, target)
        self.branches.append(branch)
        branch.label = target.label + b"-" + loop_mark(self.request)
        identifier = derive_branch(self.key, self.request, branch.label)
        data = forward_bytes(target.request, target.flow, identifier, target.record_routes)
        self.on_progress(branch, "started", 0, now)
        if target.timeout is not None:
            branch.set_timer("timeout", target.timeout, now)
        branch.client = self.stack.send_request(self.request.method, identifier, data, target.flow, branch, now)
        branch.client.forgives = self.forgives_answers
        return branch

    def on_branch_response(self, branch: Branch, response: Response, now: float) -> None:
        """Section 16.7."""
        fields, below = response.fields, response._first["via"] + 1
        is_plain = below < len(fields) and fields[below][0] == "via"  # most often; has_way_back knows the rest
        if not is_plain and not has_way_back(response):
            self._on_no_way_back(branch, response, now)
            return
        status = response.status
        if status == 100:
            self._on_trying(branch, now)
        elif status < 200:
            self._on_provisional(branch, response, now)
        elif status < 300:
            self.on_success(branch, response, now)
        elif branch.is_live:
            self._on_failure(branch, response, now)

    def _on_no_way_back(self, branch: Branch, response: Response, now: float) -> None:
        """Never forwarded (step 3), but it has moved the client transaction on: a provisional one as far as a 100
        would, a final one to its end, so that nothing else would ever end this branch."""
        self.stack.drops[Reason.NO_VIA_BELOW] += 1
        if response.status < 200:
            self._on_trying(branch, now)
        else:
            self.on_branch_failure(branch, Failure.TRANSPORT_ERROR, now)

    def _on_trying(self, branch: Branch, now: float) -> None:
        branch.stop_timer("timeout")
        if branch.cancel_wanted:
            self.cancel_branch(branch, now)
            return
        if branch.state is not _CALLING:
            return
        branch.state = _TRYING
        self.on_progress(branch, "trying", 100, now)
        if branch.given_up:
            return
        progress = branch.target.progress_timeout
        if progress is not None:
            branch.set_timer("progress", progress, now)
        if self.server.method == b"INVITE":
            branch.set_timer("c", TIMER_C, now)

    def _on_provisional(self, branch: Branch, response: Response, now: float) -> None:
        status = response.status
        branch.stop_timer("timeout")
        if not branch.is_live:
            return
        if branch.state is _CALLING and branch.target.progress_timeout is not None and not branch.given_up:
            branch.set_timer("progress", branch.target.progress_timeout, now)
        branch.state = _RINGING
        if branch.cancel_wanted or self.cancelled or self.final_status:
            self.cancel_branch(branch, now)
            return
        if self.server.method == b"INVITE":
            branch.silence = 0.0
            branch.set_timer("c", TIMER_C, now)  # step 2: restarted by each 101 to 199
        if 180 <= status <= 189:
            branch.stop_timer("progress")
            branch.given_up = False  # it rings after all, and so counts as the others do
            if self.first_to_ring_wins and self.winner is None:
                self.winner = branch
                branch.was_ringing = True
                self.on_progress(branch, "ringing", status, now)
                self._cancel_others(branch, now)
            elif not branch.was_ringing:
                branch.was_ringing = True
                self.on_progress(branch, "ringing", status, now)
        if self.winner is not None and self.winner is not branch:
            return  # another route rang first; this one is being cancelled
        if self.server.method != b"INVITE":
            return  # RFC 4320 section 4.1: no provisional response but 100 to a non-INVITE
        self.stack.respond(self.server, status, backward_bytes(response, self.server.flow), now)

    def on_success(self, branch: Branch, response: Response, now: float) -> None:
        first = branch.is_live
        branch.stop_timers()
        branch.state = _DONE
        branch.status = response.status
        if self.final_status >= 300 or (self.final_status and self.server.method != b"INVITE"):
            if self.server.method == b"INVITE":
                self.on_orphan_success(branch, response, now)
            return
        second = bool(self.final_status) and self.winner is not branch
        data = backward_bytes(response, self.server.flow)
        if not self.final_status:
            self.final_status = response.status
            self.answer_tag = response.to_tag
            self.winner = branch
            self.stack.respond(self.server, response.status, data, now)
            self._cancel_others(branch, now)
            self.on_progress(branch, "answered", response.status, now)
            self.close(response.status, branch, now)
            return
        self.stack.respond(self.server, response.status, data, now)
        if second and first:
            self.on_progress(branch, "answered", response.status, now)
            self.on_second_success(branch, response, now)

    def _on_failure(self, branch: Branch, response: Response, now: float) -> None:
        branch.stop_timers()
        branch.state = _DONE
        branch.final = response
        branch.status = response.status
        if self.final_status:
            self._let_go(branch)
            return
        if not (self.cancelled or branch.cancel_wanted):
            retry = self.retry_target(branch, response, now)
            if retry is not None:
                self.on_progress(branch, "retried", response.status, now)
                if self.winner is branch:
                    self.winner = None  # it rang first: the one that takes its place may ring, too
                self.start_branch(retry, now)
                return
        self.on_progress(branch, "refused", response.status, now)
        if response.status >= 600 and self.ends_on_6xx:
            self.routes_ended = True
            self._cancel_others(branch, now)
        self._after_failure(branch, now)

    def on_branch_failure(self, branch: Branch, failure: Failure, now: float) -> None:
        """No response at all: timer B or F, or a transport error (section 16.9)."""
        if not branch.is_live:
            return
        branch.stop_timers()
        branch.state = _DONE
        branch.status = int(failure)
        if self.final_status:
            self._let_go(branch)
            return
        self.on_progress(branch, "unreachable" if failure is Failure.TRANSPORT_ERROR else "timeout", 0, now)
        self._after_failure(branch, now)

    def on_branch_cut_off(self, branch: Branch, now: float) -> None:
        """The connection by which the INVITE went has ended after a provisional response. The far end may answer by
        another one (section 18.2.2); an ordinary call waits for that, until timer C."""

    def _after_failure(self, branch: Branch, now: float) -> None:
        if self.winner is branch:
            self.winner = None  # it rang and then failed: the ladder goes on
            self._readopt_silent()
        current = any(other.is_live and not other.given_up and not other.cancel_wanted for other in self.branches)
        if not current and not branch.given_up and self.tries_next(branch.status) and self.next_route(now):
            return
        if not current and not self.tries_next(branch.status):
            self.routes_ended = True
        self.finish_if_exhausted(now)

    def _readopt_silent(self) -> None:
        """Branches whose CANCEL had to wait for a first word: with the winner gone they may ring or answer after all,
        as any route that was given up."""
        if self.cancelled:
            return
        for other in self.branches:
            if other.is_live and other.cancel_wanted and not other.cancel_sent:
                other.cancel_wanted = False
                other.given_up = True

    def on_branch_timer(self, branch: Branch, name: str, now: float) -> None:
        """The time a route has for its first answer, for progress, or to ring, is over."""
        if name == "cancel-wait":
            self._end_branch(branch)
            self.finish_if_exhausted(now)
            return
        if not branch.is_live or self.final_status:
            return
        if name == "c" and not branch.given_up:
            self._on_timer_c(branch, now)
            return
        branch.given_up = True
        self.on_progress(branch, "timeout" if name == "timeout" else "progress-timeout", 0, now)
        if not self.next_route(now):
            self.finish_if_exhausted(now)

    def _on_timer_c(self, branch: Branch, now: float) -> None:
        """Section 16.8. An emergency call gets its next route before the old one is cancelled."""
        has_next = False
        branch.silence += TIMER_C
        if self.keeps_ringing:
            if self.winner is branch:
                self.winner = None
            has_next = self.next_route(now)
            if not has_next and branch.silence < LONGEST_SILENCE:
                if branch.was_ringing:
                    self.winner = branch
                branch.set_timer("c", TIMER_C, now)
                return
        branch.given_up = True
        branch.status = 408
        self.on_progress(branch, "timeout", 0, now)
        self.cancel_branch(branch, now)
        if not has_next and not self.next_route(now):
            self.finish_if_exhausted(now)

    # ---- cancelling ----

    def on_cancel(self, request: Request, now: float) -> None:
        """The caller cancels (section 16.10): no further route, every branch is cancelled."""
        if self.final_status or self.cancelled:
            return
        self.cancelled = True
        self.reasons = request.lines("reason")
        for branch in self.branches:
            if branch.is_live:
                self.cancel_branch(branch, now)
        # A branch that has said nothing yet cannot be cancelled (section 9.1); the caller does not wait for it.
        self.finish_if_exhausted(now)

    def cancel_branch(self, branch: Branch, now: float) -> None:
        """Send CANCEL, or as soon as a provisional response allows it (section 9.1)."""
        branch.cancel_wanted = True
        for name in ("timeout", "progress", "c"):
            branch.stop_timer(name)
        client = branch.client
        if client is not None and client.unsent:
            self._end_branch(branch)  # it never left: there is nothing to cancel, and now nothing will leave
            return
        if branch.cancel_sent or client is None or client.state is not State.PROCEEDING:
            return
        branch.cancel_sent = True
        self.stack.cancel(client, branch, now, self.reasons)
        branch.set_timer("cancel-wait", CANCEL_WAIT, now)
        self.on_progress(branch, "cancelled", 0, now)

    def _cancel_others(self, branch: Branch, now: float) -> None:
        for other in self.branches:
            if other is not branch and other.is_live:
                self.cancel_branch(other, now)

    # ---- ending ----

    def finish_if_exhausted(self, now: float) -> None:
        """Send a final response where nothing is left that could still bring one."""
        if self.final_status:
            return
        if self.cancelled:
            waiting = any(
                branch.is_live and branch.cancel_sent and self.awaits_cancelled(branch) for branch in self.branches
            )
            if waiting:
                return
            ended = next((branch for branch in self.branches if branch.status == 487 and branch.final), None)
            if ended is not None:
                self.forward_final(ended, now)
            else:
                self.finish(487, None, now)
            return
        if any(branch.is_live and not branch.given_up and not branch.cancel_wanted for branch in self.branches):
            return
        if not self.routes_ended and self.next_route(now):
            return
        self.send_failure(now)

    def forward_final(self, branch: Branch, now: float) -> None:
        """Send a branch's final response upstream as it came, and cancel what is still alive."""
        response = branch.final
        if response is not None:
            if response.status in (401, 407) and len(self.branches) > 1:
                response = with_all_challenges(response, self.branches)
            self.final_status = response.status
            self.stack.respond(self.server, response.status, backward_bytes(response, self.server.flow), now)
            self.close(response.status, branch, now)

    def finish(self, status: int, branch: Branch | None, now: float) -> None:
        """Send a final response of our own, and cancel what is still alive."""
        self.final_status = status
        self.stack.answer(self.server, status, now)
        self.close(status, branch, now)

    def fail(self, error: RemoteError, branch: Branch | None, now: float) -> None:
        """The same for a failure, which says why and is counted."""
        self.final_status = error.status
        self.stack.refuse_in(self.server, error, now)
        self.close(error.status, branch, now)

    def close(self, status: int, branch: Branch | None, now: float) -> None:
        """After the final response: cancel the rest, let go of what is no longer needed."""
        for other in self.branches:
            if other.is_live:
                self.cancel_branch(other, now)
        self.on_finished(status, branch, now)
        self.server.owner = None
        self.server.request = None
        for done in [other for other in self.branches if not other.is_live]:
            self._let_go(done, answered=done is branch)

    def _let_go(self, branch: Branch, *, answered: bool = False) -> None:
        """Untie a branch that is done, after the final response.

        Context, branch and client transaction refer to one another; untied, they are freed at once, and the garbage
        collector, whose passes hold up calls, has nothing to find.
        """
        client = branch.client
        if client is not None:
            if answered and client.state is _ACCEPTED:
                # Only copies of its 2xx can still come: they need no more than the way back.
                client.owner = SuccessRelay(
                    self.stack, self.server, self.answer_tag if self.watches_answers else None
                )
            elif client.state is _ACCEPTED:
                return  # an answer nobody waited for: its copies are to be acknowledged too
            else:
                client.owner = None
            branch.client = None
        if self.winner is branch:
            self.winner = None
        if branch in self.branches:
            self.branches.remove(branch)

    def _end_branch(self, branch: Branch) -> None:
        branch.stop_timers()
        branch.state = _DONE
        branch.status = branch.status or 408
        if branch.client is not None:
            self.stack.abandon_client(branch.client)
        if self.final_status:
            self._let_go(branch)
