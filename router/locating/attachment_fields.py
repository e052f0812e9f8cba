"""Which header fields of a request say what the phone is attached to; read from inside sources only."""

from config.schema import Wiremap
from e911.attachment import Attachment, read_attachment
from router.network.sources import Side, Source
from sip.message import Request

ACCESS_NETWORK_INFO = "p-access-network-info"


class AttachmentFields:
    """The fields of a configuration, compiled."""

    def __init__(self, config: Wiremap) -> None:
        self.ignored_bits = config.bssid_ignored_bits
        self._access = (ACCESS_NETWORK_INFO,) if config.access_network_info else ()
        self._bssid = tuple(config.bssid_headers)
        self._both = tuple(fields.chassis for fields in config.lldp_headers if fields.chassis == fields.port)
        self._pairs = tuple(
            (fields.chassis, fields.port) for fields in config.lldp_headers if fields.chassis != fields.port
        )
        self._all = frozenset(
            (*self._access, *self._bssid, *self._both, *(name for pair in self._pairs for name in pair))
        )

    def read(self, request: Request, source: Source) -> Attachment | None:
        """What the request says; None where it says nothing, or comes from somebody who is not believed."""
        if self._all.isdisjoint(request.keys()) or source.side is not Side.INSIDE:
            return None
        return read_attachment(
            _texts(request, self._access),
            _texts(request, self._bssid),
            _texts(request, self._both),
            [
                (chassis, "".join(_texts(request, (port_field,))[:1]))
                for chassis_field, port_field in self._pairs
                for chassis in _texts(request, (chassis_field,))[:1]
            ],
        )


def _texts(request: Request, names: tuple[str, ...]) -> list[str]:
    return [value.decode("latin-1") for name in names for value in request.all(name)]
