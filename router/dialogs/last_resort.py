"""Where a request of an answered emergency call goes whose far end names itself in a way that nobody can find.

A Contact or Record-Route with a host name of the provider's own network, any name while DNS is down, or a TCP port
that is closed: without ACK the call would be hung up after 32 s, without its BYE it would stay up.
"""

from e911.record import DialogFormed
from router.network.listening import ListeningPoints
from router.network.sources import Sources
from sip.flow import Flow, ListeningPoint
from sip.message import Request


def last_resort(
    dialog: DialogFormed | None, request: Request, points: ListeningPoints, sources: Sources, near: ListeningPoint
) -> list[Flow]:
    """The place that the call was answered from, for a request of the caller's in this dialog; else none.

    near: the listening point the request came in by.
    """
    if dialog is None or request.from_tag != dialog.from_tag.encode("latin-1"):
        return []
    return answered_from(dialog, points, sources, near)


def answered_from(
    dialog: DialogFormed, points: ListeningPoints, sources: Sources, near: ListeningPoint
) -> list[Flow]:
    """The place that an emergency call was answered from; none where an earlier version has not said it."""
    transport, _, address = dialog.answered_by.partition(" ")
    host, _, port = address.rpartition(" ")
    if not port.isdigit():
        return []
    point = points.choose(transport, host, near, sources.interface_of(host))
    return [Flow(point, host, int(port))] if point is not None else []
