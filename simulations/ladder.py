"""The SIP ladder of a call, drawn from what the actors really sent and received."""

from collections.abc import Collection, Sequence

from router.trace.ladder_view import Step
from router.trace.view import label_of
from simulations.actor import Actor


def ladder(actors: Sequence[Actor], call_ids: Collection[bytes], start: float, router: str) -> list[Step]:
    """The messages of a call with these Call-IDs, in order of time.

    Where both ends are actors the sender's word counts; whoever is no actor is the router.
    """
    names = {actor.address: actor.name for actor in actors}
    found: list[tuple[float, Step]] = []
    before: set[tuple[str, bool, bytes]] = set()
    for actor in actors:
        for seen in actor.log:
            if seen.call_id not in call_ids:
                continue
            peer = names.get(seen.peer, router)
            if not seen.sent and peer != router:
                continue
            key = (actor.name, seen.sent, seen.data)
            step = Step(
                ms=round((seen.at - start) * 1000, 1),
                sender=actor.name if seen.sent else peer,
                to=peer if seen.sent else actor.name,
                label=label_of(seen.message),
                start_line=seen.data.partition(b"\r\n")[0].decode("latin-1"),
                transport=seen.transport,
                size=len(seen.data),
                again=key in before,
            )
            before.add(key)
            found.append((seen.at, step))
    found.sort(key=lambda item: item[0])
    return [step for _, step in found]
